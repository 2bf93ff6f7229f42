"""The profile of the training data: for each column its nulls, its categories and the distances of its windows.

DuckDB computes it from the snapshot's file, so that memory does not grow with the number of rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from continuous_training.data import duckdb_connection
from continuous_training.data.duckdb_connection import quote
from continuous_training.documents import Value
from continuous_training.monitoring import distances
from continuous_training.monitoring.columns import cast_sql
from continuous_training.monitoring.distances import DriftTest

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    from numpy.typing import NDArray

    from continuous_training.settings import Settings

BINS_PER_DEVIATION = 200  # numbers are counted in bins of this part of a standard deviation: the distances' precision
MAX_DEVIATIONS = 100  # numbers further from the mean, in standard deviations, are counted there
MIN_WINDOW_SHARE = 0.9  # of its length: a shorter rest at the beginning of the training rows is no window
MAX_CATEGORIES = 1000  # of a column: with more of them a new category means nothing
PERIOD = quote("ct.period")  # column with the number of a row's window
COPIED_VALUES = 5_000_000  # at once, in memory
MIN_WINDOW_ROWS = 30  # to compute a distance or a score of a window


class ColumnProfile(Value):
    """The profile of one column of the training data.

    `values` has the share of each category, or is None if there are too many. `distances` has the distance of each
    training window from all training rows, or None for a window with too few values.
    """

    test: DriftTest
    null_share: float
    values: dict[str, float] | None = None
    distances: list[float | None]

    @property
    def window_distances(self) -> list[float]:
        """The distances, with NaN for None."""
        return [math.nan if distance is None else distance for distance in self.distances]


def profile_columns(path: Path, settings: Settings) -> dict[str, ColumnProfile]:
    """Return the profile of each feature of a snapshot's file."""
    with _open(path, settings) as connection:
        rows = connection.read_parquet(str(path))
        names = [name for name in settings.data.features if name in rows.columns]
        period, [count] = _window_number(rows, settings), _aggregate(rows, "count(*)")
        at_once = max(1, COPIED_VALUES // max(1, count))
        profiles: dict[str, ColumnProfile] = {}
        for start in range(0, len(names), at_once):
            part = names[start : start + at_once]
            values = ", ".join(
                f"{cast_sql(quote(name), settings.data.columns[name])} AS {quote(name)}" for name in part
            )
            columns = rows.project(f"{period} AS {PERIOD}, {values}")
            if len(part) > 1:  # a copy: each statement on the file takes time for all columns that it has
                columns.to_table(f"copy_{start}")
                columns = connection.table(f"copy_{start}")
            profiles |= {name: _profile_column(columns, name, settings) for name in part}
            connection.execute(f"DROP TABLE IF EXISTS copy_{start}")
        return profiles


def sample_rows(path: Path, settings: Settings) -> Any:  # noqa: ANN401 - a pyarrow.Table, which has no types
    """Return a sample of a snapshot's file by the hash of the key: the same rows each time.

    From a large file only the rows whose hash is divisible by some number are sorted: about twice the sample's size.
    """
    with _open(path, settings) as connection:
        rows = connection.read_parquet(str(path))
        features = ", ".join(
            f"{cast_sql(quote(name), settings.data.columns[name])} AS {quote(name)}" for name in settings.data.features
        )
        key = ", ".join(f"CAST({quote(name)} AS VARCHAR)" for name in settings.data.key)
        key_hash, size = f"md5_number_lower(concat_ws(chr(31), {key}))", settings.monitor.sample_rows
        [count] = _aggregate(rows, "count(*)")
        subset = rows.filter(f"{key_hash} % {max(count // (2 * size), 1)} = 0").order(key_hash).limit(size)
        return subset.project(features).to_arrow_table()


def _open(path: Path, settings: Settings) -> duckdb.DuckDBPyConnection:
    return duckdb_connection.connect(columns=len(settings.data.columns), rows=pq.read_metadata(path).num_rows)


def _profile_column(columns: duckdb.DuckDBPyRelation, name: str, settings: Settings) -> ColumnProfile:
    column = settings.data.columns[name]
    test = settings.monitor.measure_of(name, column.type).test
    values = columns.project(f"{quote(name)} AS value, {PERIOD} AS period")
    total, valid = _aggregate(values, "count(*), count(value)")
    return ColumnProfile(
        test=test,
        null_share=1 - valid / total,
        values=_category_shares(values, valid) if column.type == "category" else None,
        distances=_window_distances(values, test) if valid else [],
    )


def _window_number(rows: duckdb.DuckDBPyRelation, settings: Settings) -> str:
    """Return SQL for the number of a row's window, counted back from the newest row; null before the last window."""
    time, seconds = f"epoch({quote(settings.data.time)})", settings.monitor.window_days * 86400
    oldest, newest = _aggregate(rows, f"min({time}), max({time})")
    windows = max(math.floor((newest - oldest) / seconds + 1 - MIN_WINDOW_SHARE), 1)
    return f"nullif(least(floor(({newest} - {time}) / {seconds}), {windows}), {windows})"


def _window_distances(values: duckdb.DuckDBPyRelation, test: DriftTest) -> list[float | None]:
    """Return the distance of each window from all rows, the newest first, from the histogram of each window."""
    bin_sql = "value"
    if test == "wasserstein":
        mean, deviation = _aggregate(values, "avg(value), stddev_pop(value)")
        width = max(deviation, distances.MIN_STANDARD_DEVIATION) / BINS_PER_DEVIATION
        bins = MAX_DEVIATIONS * BINS_PER_DEVIATION
        bin_sql = f"greatest({-bins}, least({bins}, round((value - {mean}) / {width})))"
    counts = values.aggregate(f"period, {bin_sql} AS bin, count(value) AS n", f"period, {bin_sql}").fetchall()
    bins_in_order = sorted({value for _, value, _ in counts if value is not None})
    indexes = {value: index for index, value in enumerate(bins_in_order)}
    histograms: dict[float | None, NDArray[np.float64]] = {}
    for period, value, rows in counts:
        histogram = histograms.setdefault(period, np.zeros(len(indexes)))
        if value is not None:
            histogram[indexes[value]] = rows
    total = np.sum([*histograms.values()], axis=0)
    gaps = np.diff(np.array(bins_in_order, dtype=np.float64)) / BINS_PER_DEVIATION if test == "wasserstein" else None
    window_distances: list[float | None] = []
    for period in sorted(each for each in histograms if each is not None):
        histogram = histograms[period]
        if histogram.sum() < MIN_WINDOW_ROWS:
            window_distances.append(None)
            continue
        pair = total / total.sum(), histogram / histogram.sum()
        window_distances.append(distances.jensen_shannon(*pair) if gaps is None else _binned_wasserstein(*pair, gaps))
    return window_distances


def _binned_wasserstein(before: NDArray[np.float64], after: NDArray[np.float64], gaps: NDArray[np.float64]) -> float:
    """Return the area between two distribution functions.

    Args:
        before: the share of rows in each bin, of shape (bins,).
        after: the same of the other sample.
        gaps: the distances between neighbouring bins in standard deviations, of shape (bins - 1,).
    """
    return float(np.abs(np.cumsum(before - after)[:-1]) @ gaps)


def _category_shares(values: duckdb.DuckDBPyRelation, valid: int) -> dict[str, float] | None:
    counts = values.filter("value IS NOT NULL").aggregate("value, count(*) AS n", "value").order("n DESC, value")
    categories = counts.limit(MAX_CATEGORIES + 1).fetchall()
    return None if len(categories) > MAX_CATEGORIES else {value: rows / valid for value, rows in categories}


def _aggregate(rows: duckdb.DuckDBPyRelation, expressions: str) -> tuple[Any, ...]:
    return rows.aggregate(expressions).fetchone() or ()
