"""Slices: the fresh rows, divided by the values of a column so that each part is large enough to be judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

MANY = 20  # more values than that of a number are put into quarters
ABSENT = "null"


@dataclass(frozen=True)
class Slice:
    """Some rows, and what they have in common; `rows` are their positions."""

    name: str
    rows: NDArray[np.intp]


def cases(classes: pd.Series | None, rows: int) -> int:
    """Count what a statement about rows rests on: those of the rarest class, or all of them in a regression.

    Rows of one class only are no cases at all: nothing can be told apart in them.
    """
    if classes is None:
        return rows
    counted = classes.value_counts()
    return int(counted.min()) if len(counted) > 1 else 0


def divide(column: pd.Series, classes: pd.Series | None, needed: int) -> list[Slice]:
    """Divide the rows by the values of a column; every row is in exactly one slice.

    Values with fewer cases than needed are judged together, and not left out: the smallest ones join until there are
    enough. Numbers of many values are divided into quarters.

    Args:
        column: the values, of shape (rows,).
        classes: the truth of a classification, of shape (rows,); None for a regression.
        needed: the cases (see `cases`) that a slice needs.
    """
    values = _values(column)
    kinds = np.zeros(len(values)) if classes is None else classes.to_numpy()
    counted = pd.crosstab(values, kinds)
    table = counted.to_numpy()
    by_size = np.argsort(table.min(axis=1), kind="stable")
    joined = int((table.min(axis=1) < needed).sum())
    while 0 < joined < len(by_size) and table[by_size[:joined]].sum(axis=0).min() < needed:
        joined += 1
    names = counted.index.to_numpy()
    few, alone = names[by_size[:joined]], names[by_size[joined:]]
    slices = [Slice(f"{column.name} = {name}", np.flatnonzero(values == name)) for name in sorted(alone)]
    if len(few):
        slices.append(Slice(f"{column.name} = {_listed(sorted(few))}", np.flatnonzero(values.isin(few))))
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
