"""How much a single feature tells about the target: the area under the ROC curve, or the correlation.

A number is taken as it is. A category is encoded by the mean target of its training rows, and scored on the fresh rows:
so many values are no advantage, and only what still holds later counts (target encoding, out of time).
"""

# ruff: noqa: S608 - the statements are made of quoted names

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from continuous_training.data.duckdb_connection import quote
from continuous_training.data.snapshot_rows import FRESH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from continuous_training.data.snapshot_rows import SnapshotRows

COPIED_VALUES = 5_000_000  # at once, in memory
MAX_ROWS = 1_000_000  # of a larger snapshot a part is scored: the error of an area is below 0.001


class Feature(NamedTuple):
    """A feature: its name, its SQL, and whether its values are categories."""

    name: str
    expression: str
    is_category: bool


def aucs(rows: SnapshotRows, features: Sequence[Feature], positive: str) -> dict[str, float]:
    """Return the area under the ROC curve of each feature as a score of a condition, 0.5 to 1.

    It is the share of pairs of a positive and a negative row in which the positive one has the larger value; equal
    values count half (Mann and Whitney). A feature is left out if the rows that have a value are all alike.

    Args:
        rows: the snapshot.
        features: the features.
        positive: an SQL condition, such as that the target is of one class.
    """
    scores = {}
    for feature, column in _copies(rows, features, f"CAST({positive} AS INTEGER)"):
        counts = (
            f"SELECT value, count_if(label = 1) AS positives, count_if(label = 0) AS negatives FROM ({column})"
            " WHERE value IS NOT NULL AND label IS NOT NULL GROUP BY ALL"
        )
        smaller = "coalesce(sum(negatives) OVER (ORDER BY value ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)"
        wins = f"SELECT positives, negatives, positives * ({smaller} + negatives / 2) AS wins FROM ({counts})"
        [[auc]] = rows.query(f"SELECT sum(wins) / nullif(sum(positives) * sum(negatives), 0) FROM ({wins})")
        if auc is not None:
            scores[feature.name] = max(float(auc), 1 - float(auc))
    return scores


def correlations(rows: SnapshotRows, features: Sequence[Feature], target: str) -> dict[str, float]:
    """Return the absolute correlation of each feature with a target, 0 to 1; left out if either is constant.

    Args:
        rows: the snapshot.
        features: the features; categories, or numbers.
        target: the name of the column.
    """
    scores = {}
    for feature, column in _copies(rows, features, f"CAST({quote(target)} AS DOUBLE)"):
        finite = "value IS NOT NULL AND label IS NOT NULL AND isfinite(value) AND isfinite(label)"
        spreads = "stddev_pop(value) > 0 AND stddev_pop(label) > 0"
        [[value]] = rows.query(
            f"SELECT CASE WHEN {spreads} THEN abs(corr(value, label)) END"
            f" FROM (SELECT CAST(value AS DOUBLE) AS value, label FROM ({column})) WHERE {finite}"
        )
        if value is not None:
            scores[feature.name] = float(value)
    return scores


def _copies(rows: SnapshotRows, features: Sequence[Feature], label: str) -> Iterator[tuple[Feature, str]]:
    """Yield each feature with a SELECT of `value` and `label`: all rows of a number, the fresh rows of a category.

    Of a large snapshot it is a part, chosen by the hash of the key: the same each time.
    """
    total = rows.train + rows.fresh
    step = total // MAX_ROWS if rows.key else 0
    part_of_rows = f"WHERE hash({', '.join(map(quote, rows.key))}) % {step} = 0" if step > 1 else ""
    at_once = max(1, COPIED_VALUES // max(1, total // max(1, step)))
    for start in range(0, len(features), at_once):
        # A copy of few columns: each statement on the files takes time for all columns that they have
        part = dict(enumerate(features[start : start + at_once]))
        values = ", ".join(f"{feature.expression} AS value_{place}" for place, feature in part.items())
        rows.query(
            f"CREATE OR REPLACE TEMP TABLE copy AS SELECT {label} AS label, {FRESH} AS fresh, {values}"
            f" FROM rows {part_of_rows}"
        )
        for place, feature in part.items():
            yield feature, _select(f"value_{place}", is_category=feature.is_category)


def _select(value: str, *, is_category: bool) -> str:
    if not is_category:
        return f"SELECT {value} AS value, label FROM copy"
    mean = f"avg(label) FILTER (WHERE NOT fresh) OVER (PARTITION BY {value})"
    prior = "(SELECT avg(label) FROM copy WHERE NOT fresh)"  # of a value that the training rows do not have
    return f"SELECT value, label FROM (SELECT coalesce({mean}, {prior}) AS value, label, fresh FROM copy) WHERE fresh"
