"""The profile of the training rows: of every column its nulls, its values, and how far its windows lay from the whole.

DuckDB counts it in the snapshot's file, so that no row is held in memory for it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from continuous_training.documents import Value
from continuous_training.monitoring import distances
from continuous_training.monitoring.distances import Test

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from continuous_training.settings import Column, Settings

STEPS = 200  # of a standard deviation, in which numbers are counted: distances are as exact as that
FURTHEST = 100  # standard deviations: what lies further is counted there
WHOLE = 0.9  # of its days, and a window is one; what is left over where the training rows begin is none
MOST_VALUES = 1000  # of a column: with more of them a new one tells nothing
LEAST_ROWS = 30  # of a window, to say how far it lay, or what answers were worth in it


class Profile(Value):
    """What the model learnt of one column.

    `values` are the shares of all categories that there were, or None if there were too many; `distances` tells of each
    window of the training rows how far it lay from all of them, None where it had too few values.
    """

    test: Test
    null_share: float
    values: dict[str, float] | None = None
    distances: list[float | None]

    @property
    def measured(self) -> list[float]:
        """The distances, NaN for those that are none."""
        return [math.nan if found is None else found for found in self.distances]


def profiles(path: Path, settings: Settings) -> dict[str, Profile]:
    """Profile every feature of a snapshot's file."""
    with duckdb.connect() as connection:
        rows = connection.read_parquet(str(path))
        return {name: _profile(rows, name, settings) for name in settings.data.features if name in rows.columns}


def sample(path: Path, settings: Settings) -> Any:  # noqa: ANN401 - a pyarrow.Table, which has no types
    """Draw rows from a snapshot's file by the hash of their key: the same ones however often it is asked.

    Of very many rows only those are sorted whose hash can be divided by some number: twice as many as are asked.
    """
    names = settings.data.features
    with duckdb.connect() as connection:
        rows = connection.read_parquet(str(path))
        kept = ", ".join(f"{plain(quoted(name), settings.data.columns[name])} AS {quoted(name)}" for name in names)
        key = ", ".join(f"CAST({quoted(name)} AS VARCHAR)" for name in settings.data.key)
        order, few = f"md5_number_lower(concat_ws(chr(31), {key}))", settings.monitor.sample_rows
        [count] = _one(rows, "count(*)")
        drawn = rows.filter(f"{order} % {max(count // (2 * few), 1)} = 0").order(order).limit(few)
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
    number = f"TRY_CAST({value} AS DOUBLE)"
    return f"CASE WHEN isfinite({number}) THEN {number} END"


def _profile(rows: duckdb.DuckDBPyRelation, name: str, settings: Settings) -> Profile:
    column = settings.data.columns[name]
    test = settings.monitor.measure_of(name, column.type).test
    values = rows.project(f"{plain(quoted(name), column)} AS value, {_period(rows, settings)} AS period")
    total, known = _one(values, "count(*), count(value)")
    found: dict[str, Any] = {"test": test, "null_share": 1 - known / total}
    found["distances"] = _distances(values, test) if known else []
    return Profile(**found, values=_shares(values, known) if column.type == "category" else None)


def _period(rows: duckdb.DuckDBPyRelation, settings: Settings) -> str:
    """Write the number of the window that a row lies in, from the newest back; null beyond the last whole one."""
    time, seconds = f"epoch({quoted(settings.data.time)})", settings.monitor.window_days * 86400
    oldest, newest = _one(rows, f"min({time}), max({time})")
    windows = max(math.floor((newest - oldest) / seconds + 1 - WHOLE), 1)
    return f"nullif(least(floor(({newest} - {time}) / {seconds}), {windows}), {windows})"


def _distances(values: duckdb.DuckDBPyRelation, test: Test) -> list[float | None]:
    """Return the distance of each window from all rows, the newest first, by counting what is where."""
    where = "value"
    if test == "wasserstein":
        middle, spread = _one(values, "avg(value), stddev_pop(value)")
        step = max(spread, distances.LEAST_SPREAD) / STEPS
        most = FURTHEST * STEPS
        where = f"greatest({-most}, least({most}, round((value - {middle}) / {step})))"
    counted = values.aggregate(f"period, {where} AS place, count(value) AS n", f"period, {where}").fetchall()
    known = sorted({place for _, place, _ in counted if place is not None})
    places = {place: number for number, place in enumerate(known)}
    table: dict[float | None, NDArray[np.float64]] = {}
    for period, place, rows in counted:
        shares = table.setdefault(period, np.zeros(len(places)))
        if place is not None:
            shares[places[place]] = rows
    whole = np.sum([*table.values()], axis=0)
    gaps = np.diff(np.array([*places], dtype=np.float64)) / STEPS if test == "wasserstein" else None
    found: list[float | None] = []
    for period in sorted(each for each in table if each is not None):
        rows = table[period]
        if rows.sum() < LEAST_ROWS:
            found.append(None)
            continue
        pair = whole / whole.sum(), rows / rows.sum()
        found.append(distances.jensenshannon(*pair) if gaps is None else _between(*pair, gaps))
    return found


def _between(before: NDArray[np.float64], now: NDArray[np.float64], gaps: NDArray[np.float64]) -> float:
    """Return the area between two distribution functions, from the shares at places that lie these gaps apart."""
    return float(np.abs(np.cumsum(before - now)[:-1]) @ gaps)


def _shares(values: duckdb.DuckDBPyRelation, known: int) -> dict[str, float] | None:
    counted = values.filter("value IS NOT NULL").aggregate("value, count(*) AS n", "value").order("n DESC, value")
    found = counted.limit(MOST_VALUES + 1).fetchall()
    return None if len(found) > MOST_VALUES else {value: rows / known for value, rows in found}


def _one(values: duckdb.DuckDBPyRelation, what: str) -> tuple[Any, ...]:
    return values.aggregate(what).fetchone() or ()
