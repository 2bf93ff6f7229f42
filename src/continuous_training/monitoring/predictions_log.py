"""The predictions log as a source: the champion's requests of the last days, read by DuckDB.

The files at the log's address and the journals on this machine that were not moved there yet form one table. The window
ends at the servers' current time; AS_OF only applies to the warehouse.
"""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.parquet as pq

from continuous_training.data import sources
from continuous_training.data.duckdb_connection import quote
from continuous_training.errors import UserError
from continuous_training.monitoring.columns import ORDER, PREDICTION, cast_sql
from continuous_training.monitoring.findings import Finding
from continuous_training.monitoring.window import Window
from continuous_training.serving.predictions_log import storage
from continuous_training.serving.predictions_log.journal import read_pending_journals
from continuous_training.serving.rollout.client import OWN_REQUEST_PREFIX
from continuous_training.settings import STATE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from continuous_training.monitoring.evaluation_windows import Period
    from continuous_training.monitoring.reference import ReferenceProfile
    from continuous_training.settings import Column, Settings

log = logging.getLogger(__name__)

ADDRESS = "CT_PREDICTIONS"
CLOCK_TOLERANCE = timedelta(minutes=5)  # by which a server's clock may be ahead of this machine's
IS_CHAMPION = "log.role = 'champion' AND log.model_version = $version"
IN_WINDOW = "log.time >= $since AND log.time < $until"
ROW_HASH = "hash(log.request_id, log.row)"


class PredictionsLogReader:
    """The requests of a model since some day, as a view of one DuckDB connection."""

    def __init__(self, backend: Any, files: list[str]) -> None:  # noqa: ANN401 - Ibis creates its backends' classes
        self.backend = backend
        self.connection: duckdb.DuckDBPyConnection = backend.con
        self.files = files
        self.fields: dict[str, set[str]] = {"inputs": set(), "keys": set()}
        if not files:
            return
        paths = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
        with _database_errors():
            self.connection.execute(
                f"CREATE TEMP VIEW log AS SELECT * FROM read_parquet([{paths}], union_by_name=true)"  # noqa: S608
                f" WHERE NOT starts_with(request_id, '{OWN_REQUEST_PREFIX}')"
            )
            for name, data_type, *_ in self.connection.execute("DESCRIBE log").fetchall():
                if name in self.fields and data_type.startswith("STRUCT"):
                    columns = self.connection.execute(f"SELECT unnest({name}) FROM log LIMIT 0").description or []  # noqa: S608
                    self.fields[name] = {column[0] for column in columns}

    def query(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
        """Return the rows of a query; raises UserError if it fails."""
        with _database_errors():
            return self.connection.execute(sql, parameters).fetchall()

    def read_window(self, settings: Settings, version: str, profile: ReferenceProfile, now: datetime) -> Window | None:
        """Return the requests that a version served as champion in the window before `now`; None if the log is empty.

        Raises:
            UserError: a file cannot be read.
        """
        since = now - timedelta(days=settings.monitor.window_days)
        if not self.files:
            return None
        parameters: dict[str, Any] = {"version": version, "since": since, "until": now + CLOCK_TOLERANCE}
        findings = [*self._find_other_versions(parameters), *self._find_future_rows(now)]
        columns = {
            name: settings.data.columns[name] for name in settings.data.features if name in self.fields["inputs"]
        }
        redacted_columns = [name for name in settings.data.features if name in settings.serving.redacted]
        if redacted_columns:
            message = f"{', '.join(redacted_columns)} is not monitored: serving.redacted excludes it from the log"
            findings.append(Finding(kind="note", message=message))
        values = {name: cast_sql(f"inputs.{quote(name)}", column) for name, column in columns.items()}
        selected = [f"{value} AS {quote(name)}" for name, value in values.items()]
        selected += [f"{value} AS {quote(name)}" for name, value in _predictions_sql(profile).items()]
        selected += [f"{ROW_HASH} AS {quote(ORDER)}"]
        where = f"{IS_CHAMPION} AND {IN_WINDOW}"
        for name, value in parameters.items():  # a view takes no parameters
            where = where.replace(f"${name}", _literal(value))
        counts = {
            name: f"count(*) FILTER (inputs.{quote(name)} IS NOT NULL AND {value} IS NULL)"
            for name, value in values.items()
        }
        [[rows, *invalid]] = self.query(f"SELECT {', '.join(['count(*)', *counts.values()])} FROM log WHERE {where}")  # noqa: S608
        table = self.backend.sql(f"SELECT {', '.join(selected)} FROM log WHERE {where}", dialect="duckdb")  # noqa: S608
        return Window(
            since=since,
            until=now,
            table=table,
            rows=rows,
            findings=findings,
            invalid=dict(zip(counts, invalid, strict=True)),
            missing=[name for name in settings.data.features if name not in columns and name not in redacted_columns],
        )

    def join_labels(
        self,
        settings: Settings,
        windows: Sequence[Period],
        version: str,
        as_of: datetime,
        now: datetime,
        features: Sequence[str] = (),
    ) -> list[pd.DataFrame]:
        """Return the version's logged predictions of each evaluation window with their labels, each row once.

        A frame has the column `answers`, those that `settings.label_columns` lists, and those of `features` that are in
        the log, for a sample of at most `sample_rows` rows. Where a row was predicted more than once, the last
        prediction counts.

        Raises:
            UserError: the warehouse or the query fails, or a file cannot be read.
        """
        data, frames = settings.data, []
        names = list(dict.fromkeys([*data.key, *settings.label_columns]))
        structs = {name: "keys" if name in self.fields["keys"] else "inputs" for name in data.key}
        on = " AND ".join(
            f"{_key_sql(f'log.{struct}.{quote(name)}', data.columns[name])}"
            f" = {_key_sql(f'labels.{quote(name)}', data.columns[name])}"
            for name, struct in structs.items()
        )
        key = ", ".join(f"labels.{quote(name)}" for name in data.key)
        columns = ", ".join(
            [
                *(f"labels.{quote(name)}" for name in settings.label_columns),
                *(
                    f"{cast_sql(f'log.inputs.{quote(name)}', data.columns[name])} AS {quote(name)}"
                    for name in features
                    if name in self.fields["inputs"] and name not in settings.label_columns
                ),
            ]
        )
        known = " AND ".join(f"labels.{quote(name)} IS NOT NULL" for name in data.targets)
        parameters = {"version": version, "since": now - (as_of - windows[0][0]), "until": now + CLOCK_TOLERANCE}
        with sources.open_source(settings) as source:
            for since, until in windows:
                rows = source.table(since, until)
                reader = sources.read_table(rows[[name for name in names if name in rows.columns]])
                self.connection.register("warehouse_stream", reader)
                with _database_errors():
                    self.connection.execute("CREATE OR REPLACE TEMP TABLE labels AS SELECT * FROM warehouse_stream")
                    self.connection.unregister("warehouse_stream")
                    predictions = self.connection.execute(
                        f"""
                        SELECT log.answers, {columns}
                        FROM log JOIN labels ON {on}
                        WHERE {IS_CHAMPION} AND {IN_WINDOW} AND {known}
                        QUALIFY 1 = row_number() OVER (
                            PARTITION BY {key} ORDER BY log.time DESC, log.request_id, log.row
                        )
                        ORDER BY {ROW_HASH}
                        LIMIT {settings.monitor.sample_rows}
                        """,  # noqa: S608
                        parameters,
                    )
                    frames.append(predictions.df())
        return frames

    def has_keys(self, settings: Settings) -> bool:
        """Return whether the requests contain the key columns that identify a row in the warehouse."""
        columns_in_log = self.fields["keys"] | self.fields["inputs"]
        return bool(self.files) and set(settings.data.key) <= columns_in_log

    def _find_other_versions(self, parameters: dict[str, Any]) -> Iterator[Finding]:
        """Report the rows that are excluded because another version predicted them, or this one in another role."""
        others = f"FROM log WHERE {IN_WINDOW} AND NOT ({IS_CHAMPION}) GROUP BY ALL ORDER BY ALL"
        counts = self.query(f"SELECT model_version, role, count(*) {others}", **parameters)
        if counts:
            text = ", ".join(f"{rows:,} of version {version} as {role}" for version, role, rows in counts)
            yield Finding(kind="note", message=f"rows excluded from the window: {text}")

    def _find_future_rows(self, now: datetime) -> Iterator[Finding]:
        """Report the rows that are excluded because their time is in the future."""
        until = now + CLOCK_TOLERANCE
        [[rows, newest]] = self.query("SELECT count(*), max(time) FROM log WHERE time >= $until", until=until)
        if rows:
            message = f"{rows:,} rows with a time in the future (up to {newest:%Y-%m-%d %H:%M} UTC) are excluded"
            yield Finding(kind="warning", message=f"{message}: check the servers' clocks")


@contextmanager
def open_log(model: str, since: datetime) -> Iterator[PredictionsLogReader]:
    """Open the log of a model from a day on; files of a bucket are downloaded first.

    Raises:
        UserError: the log is disabled, or its address is invalid or cannot be read.
    """
    import ibis  # takes a second

    address = os.environ.get(ADDRESS) or str(STATE / "predictions")
    if address == "none":
        raise UserError(f"{ADDRESS}=none disables the predictions log: use --source warehouse")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = []
        for name, table in read_pending_journals(STATE / "serving" / "journal" / model).items():
            path = folder / "journals" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path)
            files.append(path)
        journals = {str(path.relative_to(folder / "journals")) for path in files}
        day = f"date={since.astimezone(UTC):%Y-%m-%d}"
        log_files = _list_files(address, model, day, folder / "downloads")
        files += [path for path in log_files if f"{path.parent.name}/{path.name}" not in journals]
        backend = ibis.duckdb.connect()
        backend.raw_sql("SET TimeZone = 'UTC'")
        try:
            yield PredictionsLogReader(backend, [str(path) for path in files])
        finally:
            backend.disconnect()


def _list_files(address: str, model: str, since: str, folder: Path) -> list[Path]:
    """Return the files of a model from a day on; those of a bucket are downloaded to a folder.

    Raises:
        UserError: the address cannot be read.
    """
    try:
        place = storage.open_storage(address)
        if isinstance(place, storage.FolderStorage):
            days = [day for day in Path(address, model).glob("date=*") if day.name >= since]
            return sorted(path for day in days for path in day.glob("*.parquet"))
        return place.download(f"{model}/", lambda name: name.partition("/")[0] >= since, folder)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the predictions log at {address} cannot be read: {str(error).splitlines()[0]}") from error


@contextmanager
def _database_errors() -> Iterator[None]:
    """Turn DuckDB's errors into UserErrors."""
    try:
        yield
    except duckdb.Error as error:
        raise UserError(f"the predictions log cannot be read: {str(error).strip().splitlines()[0]}") from error


def _predictions_sql(profile: ReferenceProfile) -> dict[str, str]:
    """Return SQL for the logged predictions as columns of the monitored type, by their names."""
    if profile.prediction_type == "number":
        return {name: f"list_extract(answers, {place})" for place, name in enumerate(profile.prediction_columns, 1)}
    if profile.prediction_type == "probability":
        return {PREDICTION: "list_extract(answers, 2)"}
    names = ", ".join(_literal(str(name)) for name in profile.classes or [])
    return {PREDICTION: f"list_extract([{names}], list_position(answers, list_max(answers)))"}


def _key_sql(expression: str, column: Column) -> str:
    """Return SQL for a key column, equal on both sides of the join; large integers keep all their digits."""
    return f"TRY_CAST({expression} AS BIGINT)" if column.type == "integer" else cast_sql(expression, column)


def _literal(value: str | datetime) -> str:
    if isinstance(value, datetime):
        return f"TIMESTAMPTZ '{value.astimezone(UTC).isoformat()}'"
    return "'" + value.replace("'", "''") + "'"
