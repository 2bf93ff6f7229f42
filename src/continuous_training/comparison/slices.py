"""Slices: the fresh rows by the values of a column, as far as these have enough cases to judge by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from continuous_training.comparison.cases import count_by_class, count_cases, count_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_CASES = 8  # of a slice: with fewer, quantiles of Student's t are so large that hardly anything is significant
MAX_DISTINCT_NUMBERS = 20  # a numeric column with more distinct values is sliced by its quartiles
NULL = "null"
MAX_NAMES = 5  # of values in the name of a slice


@dataclass(frozen=True)
class Slice:
    """A subset of the rows; `rows` are their positions, of which `cases` are independent."""

    name: str
    rows: NDArray[np.intp]
    cases: int


class Slicing(NamedTuple):
    """The slices that can be judged, and the names of the values in none of them, with their number of cases."""

    slices: list[Slice]
    rare: dict[str, int]


def slice_by_value(column: pd.Series, classes: pd.Series | None, groups: NDArray[Any] | None) -> Slicing:
    """Slice the rows by the values of a column.

    Each value with at least `MIN_CASES` is a slice. The others form one together, named so, if they then have as many.

    Args:
        column: the values, of shape (rows,).
        classes: the labels of a classification, of shape (rows,); None for a regression.
        groups: the group of each row in the bootstrap, of shape (rows,), if it draws groups.
    """
    values = _value_names(column)

    def slice_of(names: list[str], label: str) -> Slice:
        rows = np.flatnonzero(values.isin(names))
        class_sizes = count_by_class(None if classes is None else classes.iloc[rows])
        cases = count_cases(len(rows), class_sizes, count_groups(None if groups is None else groups[rows]))
        return Slice(f"{column.name} = {label}", rows, cases)

    by_value = {name: slice_of([name], name) for name in sorted(values.unique())}
    slices = [part for part in by_value.values() if part.cases >= MIN_CASES]
    rare = {name: part.cases for name, part in by_value.items() if part.cases < MIN_CASES}
    if slices and len(rare) > 1:  # without any slice the others would be all rows
        others = slice_of([*rare], f"others ({join_some([*rare])})")
        if others.cases >= MIN_CASES:
            return Slicing([*slices, others], {})
    return Slicing(slices, rare)


def _value_names(column: pd.Series) -> pd.Series:
    """Return the name of each row's value, or of the quartile that contains it."""
    values = column.reset_index(drop=True)
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if (is_number and values.nunique() > MAX_DISTINCT_NUMBERS) or pd.api.types.is_datetime64_any_dtype(values):
        values = pd.qcut(values, 4, duplicates="drop")
    return values.astype(object).where(values.notna(), NULL).astype(str)


def join_some(names: list[str]) -> str:
    """Join the first names, and say how many more there are."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
