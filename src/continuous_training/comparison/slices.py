"""Slices: the fresh rows, divided by the values of a column so that each part has the cases to be judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from continuous_training.comparison.cases import count_cases

if TYPE_CHECKING:
    from numpy.typing import NDArray

MANY = 20  # more values than that of a number are put into quarters
ABSENT = "null"
PERIODS = {"hour": "h", "day": "D", "week": "W"}


@dataclass(frozen=True)
class Slice:
    """Some rows, and what they have in common; `rows` are their positions."""

    name: str
    rows: NDArray[np.intp]


def together(times: pd.Series, by: Literal["row", "hour", "day", "week"]) -> NDArray[Any] | None:
    """Return the period of each row, for rows of one period to be drawn as a whole; None draws single rows.

    Rows of one hour or day often share what makes them hard, the weather say: drawn singly they would look like more
    evidence than they are.
    """
    return None if by == "row" else times.to_numpy().astype(f"datetime64[{PERIODS[by]}]")


def cases(classes: pd.Series | None, groups: NDArray[Any] | None, rows: int) -> int:
    """Count what a statement about rows rests on: those of the rarest class, or all of them in a regression.

    Rows that are drawn together are one case, and rows of one class are none: nothing can be told apart in them.

    Args:
        classes: the truth of a classification, of shape (rows,); None for a regression.
        groups: the label of each row's group, of shape (rows,), if groups are drawn as a whole.
        rows: how many rows there are.
    """
    sizes = None if classes is None else classes.value_counts().tolist()
    return count_cases(rows, sizes, None if groups is None else len(np.unique(groups)))


def divide(column: pd.Series, classes: pd.Series | None, groups: NDArray[Any] | None, needed: int) -> list[Slice]:
    """Divide the rows by the values of a column; every row is in exactly one slice.

    Values with fewer cases than needed are judged together, and not left out: the smallest ones join until there are
    enough. Numbers of many values are divided into quarters.

    Args:
        column: the values, of shape (rows,).
        classes: as in `cases`.
        groups: as in `cases`.
        needed: the cases that a slice needs.
    """
    values = _values(column)

    def rows(names: list[str]) -> NDArray[np.intp]:
        return np.flatnonzero(values.isin(names))

    def size(names: list[str]) -> int:
        of = rows(names)
        return cases(None if classes is None else classes.iloc[of], None if groups is None else groups[of], len(of))

    sizes = {name: size([name]) for name in sorted(values.unique())}
    by_size = sorted(sizes, key=lambda name: sizes[name])
    few = [name for name in by_size if sizes[name] < needed]
    alone = by_size[len(few) :]
    while few and alone and size(few) < needed:
        few.append(alone.pop(0))
    slices = [Slice(f"{column.name} = {name}", rows([name])) for name in sorted(alone)]
    if few:
        slices.append(Slice(f"{column.name} = {_listed(sorted(few))}", rows(few)))
    return slices


def _values(column: pd.Series) -> pd.Series:
    """Return a text for each row: its value, or the quarter that its number lies in."""
    filled = column.reset_index(drop=True)
    number = pd.api.types.is_numeric_dtype(filled) and not pd.api.types.is_bool_dtype(filled)
    if (number and filled.nunique() > MANY) or pd.api.types.is_datetime64_any_dtype(filled):
        filled = pd.qcut(filled, 4, duplicates="drop")
    return filled.astype(object).where(filled.notna(), ABSENT).astype(str)


def _listed(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
