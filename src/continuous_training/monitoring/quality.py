"""Data quality: what is wrong with the values that the champion is asked with, counted in all rows of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from continuous_training.documents import format_percent
from continuous_training.monitoring.asked import ORDER
from continuous_training.monitoring.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from continuous_training.monitoring.asked import Asked
    from continuous_training.monitoring.reference import Learnt
    from continuous_training.settings import Settings

SAID = {
    "null": "has no value in {now} of the rows; it was {then} in training, and {allowed} are allowed",
    "unreadable": "is no {type} in {now} of the rows",
    "new": "has a value that was never learnt in {now} of the rows",
    "outside": "is outside of {low} to {high} in {now} of the rows",
}


def nulls(window: Asked) -> dict[str, float]:
    """Return the share of nulls in each column, of the values that could be read."""
    counted = window.counts({name: window.table[name].isnull() for name in window.table.columns if name != ORDER})
    return {name: rows / window.rows for name, rows in counted.items()}


def check(window: Asked, learnt: Learnt, settings: Settings, null_shares: dict[str, float]) -> Iterator[Finding]:
    """Say what is wrong with each column; a share of `max_odd_share` of the rows may be."""
    for name in [name for name in window.absent if name in learnt.columns]:
        yield Finding(kind="odd", column=name, message=f"«{name}» has disappeared: no row has such a column")
    columns = [name for name in settings.data.features if name in window.table.columns]
    outside = window.counts(
        {name: beyond for name in columns if (beyond := _outside(window, settings, name)) is not None}
    )
    for name in columns:
        column, most = settings.data.columns[name], settings.monitor.max_odd_share
        unreadable = window.unreadable.get(name, 0) / window.rows
        if null_shares[name] == 1 and not unreadable:
            yield Finding(kind="odd", column=name, message=f"«{name}» has no value in any row")
            continue
        then = learnt.columns[name].null_share if name in learnt.columns else 0.0
        shares = {
            "null": null_shares[name] - unreadable,
            "unreadable": unreadable,
            "new": _new(window, learnt, settings, name) / window.rows,
            "outside": outside.get(name, 0) / window.rows,
        }
        limits = {"null": max(then, column.max_null_share) + most}
        for kind, share in shares.items():
            if share > limits.get(kind, most):
                told = {"type": column.type, "low": column.min, "high": column.max, "now": format_percent(share)}
                told |= {"then": format_percent(then), "allowed": format_percent(column.max_null_share)}
                yield Finding(kind="odd", column=name, message=f"«{name}» {SAID[kind].format(**told)}")


def _new(window: Asked, learnt: Learnt, settings: Settings, name: str) -> int:
    """Count the rows with a category that was not there in training."""
    known = learnt.columns[name].values if name in learnt.columns else None
    if known is None or settings.data.columns[name].type != "category":
        return 0
    return window.others(name, list(known))


def _outside(window: Asked, settings: Settings, name: str) -> Any:  # noqa: ANN401 - Ibis' expressions have no types
    """Return an expression of the window's table that is true of a value beyond its limits; None if it has none."""
    column, value = settings.data.columns[name], window.table[name]
    if column.type not in {"number", "integer"}:
        return None
    beyond = [value < column.min] if column.min is not None else []
    beyond += [value > column.max] if column.max is not None else []
    return beyond[0] | beyond[-1] if beyond else None
