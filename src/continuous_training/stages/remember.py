"""Remember: keep rows on which the model fails as a past failure, which every candidate must pass from then on."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import duckdb
from pydantic import ValidationError

from continuous_training.data import duckdb_connection, sources
from continuous_training.data.duckdb_connection import quote
from continuous_training.documents import first_error, write_atomically
from continuous_training.errors import UsageError, UserError
from continuous_training.registry import model_versions
from continuous_training.stages import past_failures, person
from continuous_training.stages.past_failures import MAX_ROWS, Expectation, PastFailure
from continuous_training.versions.examination import Policy
from continuous_training.versions.opening import open_version

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from mlflow import MlflowClient

    from continuous_training.documents import Check
    from continuous_training.settings import Settings

SQL_TYPES = {
    "category": "VARCHAR",
    "number": "DOUBLE",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMP",
}
NAME_LENGTH = 40


class Selection(NamedTuple):
    """Which rows to remember: a condition in DuckDB's SQL, the window, and how many rows at most."""

    where: str
    since: datetime
    until: datetime
    limit: int


class Memory(NamedTuple):
    """What was remembered: the file, the past failure, how many rows match, and whether the champion passes it."""

    path: Path
    failure: PastFailure
    matches: int
    champion: Check | None


def make_expectation(settings: Settings, **conditions: float | None) -> Expectation:
    """Return what must hold, from the options of the command line; those without a value are left out.

    Raises:
        UsageError: a value is out of range, or the condition is not one of the model's task.
    """
    options = {name: value for name, value in conditions.items() if value is not None}
    is_regression = settings.model.task == "regression"
    if is_regression and "max_error" not in options:
        raise UsageError("a regression needs --max-error: how far a prediction may be from the label")
    if foreign := options.keys() & {"min_probability" if is_regression else "max_error"}:
        raise UsageError(f"--{min(foreign).replace('_', '-')} is not for a {settings.model.task}")
    try:
        return Expectation.model_validate(options)
    except ValidationError as error:
        name, _, message = first_error(error).partition(": ")
        raise UsageError(f"--{name.replace('_', '-')}: {message}") from error


def remember(
    client: MlflowClient,
    model: str,
    settings: Settings,
    selection: Selection,
    expectation: Expectation,
    *,
    reason: str,
    label: str | None = None,
    name: str | None = None,
) -> Memory:
    """Write rows of the source, with their labels, to a file of the model's past failures.

    Args:
        client: of MLflow, to check the champion; a model without one is no error.
        model: the model.
        settings: its settings.
        selection: which rows.
        expectation: what must hold of the predictions.
        reason: why.
        label: what is expected in place of the rows' own target.
        name: of the file; by default made of the reason.

    Raises:
        UsageError: the name, the condition or the label is invalid.
        UserError: the source fails, no row matches, a label is null, or the file exists.
    """
    path = past_failures.folder(model) / f"{_file_name(name or reason, is_name=name is not None)}.json"
    if path.exists():
        raise UserError(f"{path} exists: choose another --name, or remove the file")
    table, matches = _select(settings, selection, label)
    failure = PastFailure(
        reason=reason,
        by=person.name(),
        at=datetime.now(UTC).replace(microsecond=0),
        where=selection.where,
        since=selection.since,
        until=selection.until,
        expectation=expectation,
        columns=table.column_names,
        rows=[list(row.values()) for row in table.to_pylist()],
    )
    # As it will be read: moments are texts there
    failure = PastFailure.model_validate_json(failure.render())
    failure.table(settings)
    champion = model_versions.by_alias(client, model, model_versions.CHAMPION)
    check = None
    if champion:
        with open_version(champion.uri, Policy(model, settings.model), champion.run_id) as version:
            check = past_failures.check_failure(failure, version, settings)
    write_atomically(path, failure.render())
    return Memory(path, failure, matches, check)


def _file_name(text: str, *, is_name: bool) -> str:
    """Return a file name made of a text.

    Raises:
        UsageError: a person has chosen another, or nothing is left.
    """
    name = re.sub(r"[^a-z0-9]+", "-", text.lower())[:NAME_LENGTH].strip("-")
    if not name or (is_name and name != text):
        raise UsageError("--name has letters from a to z, digits and single hyphens, such as new-airport")
    return name


def _select(settings: Settings, selection: Selection, label: str | None) -> tuple[pa.Table, int]:
    """Return rows in the types of training.yaml, evenly spread over time if more match, and how many match."""
    data = settings.data
    if not 1 <= selection.limit <= MAX_ROWS:
        raise UsageError(f"--limit {selection.limit} is not from 1 to {MAX_ROWS}")
    if selection.since >= selection.until:
        raise UsageError(f"--since {selection.since:%Y-%m-%d} is not before --until {selection.until:%Y-%m-%d}")
    columns = dict.fromkeys([*data.key, data.time, *data.features, *data.targets])
    targets = {name: quote(name) if label is None else duckdb_connection.literal(label) for name in data.targets}
    casts = [
        f"CAST({targets.get(name, quote(name))} AS {SQL_TYPES[data.columns[name].type]}) AS {quote(name)}"
        for name in columns
    ]
    order = ", ".join(map(quote, (data.time, *data.key)))
    with (
        sources.open_source(settings) as source,
        duckdb_connection.connect(options={"enable_external_access": "false"}, columns=len(columns)) as connection,
    ):
        connection.register("source_rows", source.read(selection.since, selection.until))
        try:
            connection.execute(
                f"CREATE TABLE matches AS SELECT *, row_number() OVER (ORDER BY {order}) - 1 AS place "  # noqa: S608
                f"FROM source_rows WHERE ({selection.where}\n)"
            )
            (count,) = connection.execute("SELECT count(*) FROM matches").fetchone() or (0,)
            step = max(1, count / selection.limit)
            places = sorted({int(number * step) for number in range(min(count, selection.limit))})
            chosen = f"SELECT {', '.join(casts)} FROM matches WHERE list_contains($places, place) ORDER BY place"  # noqa: S608
            table = connection.execute(chosen, {"places": places}).to_arrow_table()
        except duckdb.Error as error:
            raise UsageError(f"--where or --label does not fit the rows: {str(error).splitlines()[0]}") from error
    if not count:
        window = f"from {selection.since:%Y-%m-%d} to {selection.until:%Y-%m-%d}"
        raise UserError(f"no row {window} matches: change --where, --since or --until")
    for name in data.targets:
        if table[name].null_count:
            raise UserError(
                f"the label {name} of {table[name].null_count:,} rows is null: say what is expected by --label"
            )
    return table, count
