"""The profile of the training rows: of every column its nulls, its values, and how far its windows lay from the whole.

DuckDB counts it in the snapshot's file, so that no row is held in memory for it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
from pydantic import Field

from continuous_training.documents import Value
from continuous_training.monitor import distances
from continuous_training.monitor.distances import Test

if TYPE_CHECKING:
    from pathlib import Path

    from continuous_training.settings import Column, Settings

MIDDLES = [round((place + 0.5) / 200, 4) for place in range(200)]  # quantiles that make up a Wasserstein distance
QUANTILES = [0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0]
MOST_VALUES = 1000  # of a column: with more of them a new one tells nothing
LEAST_ROWS = 30  # of a window, to say how far it lay


class Profile(Value):
    """What the model learnt of one column.

    `values` are the shares of all categories that there were, or None if there were too many; `distances` tells of each
    window of the training rows how far it lay from all of them, None where it had too few values.
    """

    test: Test
    null_share: float
    quantiles: list[float] = Field(default_factory=list)
    values: dict[str, float] | None = None
    distances: list[float | None]

    @property
    def measured(self) -> list[float]:
        """The distances, NaN for those that are none."""
        return [math.nan if found is None else found for found in self.distances]


def profiles(path: Path, given: Settings) -> dict[str, Profile]:
    """Profile every feature of a snapshot's file."""
    with duckdb.connect() as connection:
        rows = connection.read_parquet(str(path))
        return {name: _profile(rows, name, given) for name in given.data.features if name in rows.columns}


def sample(path: Path, given: Settings) -> Any:  # noqa: ANN401 - a pyarrow.Table, which has no types
    """Draw rows from a snapshot's file by the hash of their key: the same ones however often it is asked."""
    names = given.data.features
    with duckdb.connect() as connection:
        rows = connection.read_parquet(str(path))
        kept = ", ".join(f"{plain(quoted(name), given.data.columns[name])} AS {quoted(name)}" for name in names)
        key = ", ".join(f"CAST({quoted(name)} AS VARCHAR)" for name in given.data.key)
        drawn = rows.order(f"md5_number_lower(concat_ws(chr(31), {key}))").limit(given.monitor.sample_rows)
        return drawn.project(kept).to_arrow_table()


def quoted(name: str) -> str:
    """Write a column's name for DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def plain(value: str, column: Column) -> str:
    """Write a column, of whatever type it is, as the monitor looks at it: categories as text, all else as numbers.

    What is no such value is null.
    """
    if column.type == "category":
        return f"CAST({value} AS VARCHAR)"
    if column.type == "timestamp":
        return f"epoch(TRY_CAST({value} AS TIMESTAMP))"
    if column.type == "boolean":
        return f"CAST(TRY_CAST({value} AS BOOLEAN) AS DOUBLE)"
    return f"TRY_CAST({value} AS DOUBLE)"


def _profile(rows: duckdb.DuckDBPyRelation, name: str, given: Settings) -> Profile:
    column = given.data.columns[name]
    test = given.monitor.of(name, column.type).test
    seconds = given.monitor.window_days * 86400
    time = quoted(given.data.time)
    of_window = f"CAST(floor((epoch({time}) - (min(epoch({time})) OVER ())) / {seconds}) AS BIGINT) AS period"
    values = rows.project(f"{plain(quoted(name), column)} AS value, {of_window}")
    total, known = _one(values, "count(*), count(value)")
    found: dict[str, Any] = {"test": test, "null_share": 1 - known / total}
    found["distances"] = (_numbers if test == "wasserstein" else _categories)(values) if known else []
    if column.type == "category":
        return Profile(**found, values=_shares(values, known))
    [quantiles] = _one(values, f"quantile_cont(value, {QUANTILES})")
    return Profile(**found, quantiles=quantiles or [])


def _numbers(values: duckdb.DuckDBPyRelation) -> list[float | None]:
    """Return the Wasserstein distance of each window from all rows, by as many quantiles as tell it well."""
    middles = f"quantile_cont(value, {MIDDLES})"
    whole, spread = _one(values, f"{middles}, stddev_pop(value)")
    windows = values.aggregate(f"period, count(value), {middles}", "period").order("period").fetchall()
    scale = max(spread, distances.LEAST_SPREAD)
    return [
        float(np.abs(np.subtract(each, whole)).mean()) / scale if rows >= LEAST_ROWS else None
        for _, rows, each in windows
    ]


def _categories(values: duckdb.DuckDBPyRelation) -> list[float | None]:
    """Return the Jensen-Shannon distance of each window from all rows."""
    counted = values.filter("value IS NOT NULL").aggregate("period, value, count(*) AS n", "period, value").fetchall()
    periods = {period for (period,) in values.project("period").distinct().fetchall()}
    places = {value: place for place, value in enumerate(dict.fromkeys(value for _, value, _ in counted))}
    table = {period: np.zeros(len(places)) for period in sorted(periods)}
    for period, value, rows in counted:
        table[period][places[value]] = rows
    whole = sum(table.values(), np.zeros(len(places)))
    return [
        distances.jensenshannon(whole / whole.sum(), each / each.sum()) if each.sum() >= LEAST_ROWS else None
        for each in table.values()
    ]


def _shares(values: duckdb.DuckDBPyRelation, known: int) -> dict[str, float] | None:
    counted = values.filter("value IS NOT NULL").aggregate("value, count(*) AS n", "value").order("n DESC, value")
    found = counted.limit(MOST_VALUES + 1).fetchall()
    return None if len(found) > MOST_VALUES else {value: rows / known for value, rows in found}


def _one(values: duckdb.DuckDBPyRelation, what: str) -> tuple[Any, ...]:
    return values.aggregate(what).fetchone() or ()
