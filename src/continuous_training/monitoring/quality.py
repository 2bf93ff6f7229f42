"""Data quality: nulls, invalid values, new categories and values out of range, counted in all rows of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from continuous_training.formatting import format_percent
from continuous_training.monitoring.columns import ORDER
from continuous_training.monitoring.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from continuous_training.monitoring.reference import ReferenceProfile
    from continuous_training.monitoring.window import Window
    from continuous_training.settings import Settings

MESSAGES = {
    "null": "is null in {share} of the rows; it was null in {reference} of the training rows, {allowed} are allowed",
    "invalid": "is not a valid {type} in {share} of the rows",
    "new category": "has a category that is not in the training data in {share} of the rows",
    "out of range": "is not between {low} and {high} in {share} of the rows",
}


def count_nulls(window: Window) -> dict[str, float]:
    """Return the share of nulls in each column, invalid values included."""
    counts = window.count_rows({name: window.table[name].isnull() for name in window.table.columns if name != ORDER})
    return {name: rows / window.rows for name, rows in counts.items()}


def check_quality(
    window: Window, profile: ReferenceProfile, settings: Settings, null_shares: dict[str, float]
) -> Iterator[Finding]:
    """Yield a warning for each problem of a column that affects more than `max_odd_share` of the rows."""
    for name in [name for name in window.missing if name in profile.columns]:
        yield Finding(kind="warning", column=name, message=f"column '{name}' is missing in every row")
    columns = [name for name in settings.data.features if name in window.table.columns]
    ranges = {name: _out_of_range(window, settings, name) for name in columns}
    out_of_range = window.count_rows({name: condition for name, condition in ranges.items() if condition is not None})
    for name in columns:
        column, tolerance = settings.data.columns[name], settings.monitor.max_odd_share
        invalid = window.invalid.get(name, 0) / window.rows
        if null_shares[name] == 1 and not invalid:
            yield Finding(kind="warning", column=name, message=f"column '{name}' is null in every row")
            continue
        reference = profile.columns[name].null_share if name in profile.columns else 0.0
        shares = {
            "null": null_shares[name] - invalid,
            "invalid": invalid,
            "new category": _count_new_categories(window, profile, settings, name) / window.rows,
            "out of range": out_of_range.get(name, 0) / window.rows,
        }
        limits = {"null": max(reference, column.max_null_share) + tolerance}
        for problem, share in shares.items():
            if share > limits.get(problem, tolerance):
                text = MESSAGES[problem].format(
                    type=column.type,
                    low="-∞" if column.min is None else column.min,
                    high="∞" if column.max is None else column.max,
                    share=format_percent(share),
                    reference=format_percent(reference),
                    allowed=format_percent(column.max_null_share),
                )
                yield Finding(kind="warning", column=name, message=f"column '{name}' {text}")


def _count_new_categories(window: Window, profile: ReferenceProfile, settings: Settings, name: str) -> int:
    """Count the rows with a category that is not in the training data."""
    known = profile.columns[name].values if name in profile.columns else None
    if known is None or settings.data.columns[name].type != "category":
        return 0
    return window.count_unknown(name, list(known))


def _out_of_range(window: Window, settings: Settings, name: str) -> Any:  # noqa: ANN401 - Ibis' expressions have no types
    """Return an Ibis condition that is true for values beyond the column's limits; None if it has no limits."""
    column, value = settings.data.columns[name], window.table[name]
    if column.type not in {"number", "integer"}:
        return None
    conditions = [value < column.min] if column.min is not None else []
    conditions += [value > column.max] if column.max is not None else []
    return conditions[0] | conditions[-1] if conditions else None
