"""Slices: the fresh rows by the values of a column, each with enough cases for a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from continuous_training.comparison.cases import count_by_class, count_cases, count_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_DISTINCT_NUMBERS = 20  # a numeric column with more distinct values is sliced by its quartiles
NULL = "null"
MAX_NAMES = 5  # of values in the name of a slice


@dataclass(frozen=True)
class Slice:
    """A subset of the rows; `rows` are their positions."""

    name: str
    rows: NDArray[np.intp]


def slice_by_value(
    column: pd.Series, classes: pd.Series | None, groups: NDArray[Any] | None, min_cases: int
) -> list[Slice]:
    """Slice the rows by the values of a column; every row is in exactly one slice.

    Values with too few cases form one slice, which also takes the smallest of the others until it has enough.

    Args:
        column: the values, of shape (rows,).
        classes: the labels of a classification, of shape (rows,); None for a regression.
        groups: the group of each row in the bootstrap, of shape (rows,), if it draws groups.
        min_cases: the number of cases that a slice needs.
    """
    values = _value_names(column)

    def rows_of(names: list[str]) -> NDArray[np.intp]:
        return np.flatnonzero(values.isin(names))

    def cases_of(names: list[str]) -> int:
        rows = rows_of(names)
        class_sizes = count_by_class(None if classes is None else classes.iloc[rows])
        return count_cases(len(rows), class_sizes, count_groups(None if groups is None else groups[rows]))

    cases = {name: cases_of([name]) for name in sorted(values.unique())}
    by_cases = sorted(cases, key=lambda name: cases[name])
    rare = [name for name in by_cases if cases[name] < min_cases]
    others = by_cases[len(rare) :]
    while rare and others and cases_of(rare) < min_cases:
        rare.append(others.pop(0))
    slices = [Slice(f"{column.name} = {name}", rows_of([name])) for name in sorted(others)]
    if rare:
        slices.append(Slice(f"{column.name} = {_join_names(sorted(rare))}", rows_of(rare)))
    return slices


def _value_names(column: pd.Series) -> pd.Series:
    """Return the name of each row's value, or of the quartile that contains it."""
    values = column.reset_index(drop=True)
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if (is_number and values.nunique() > MAX_DISTINCT_NUMBERS) or pd.api.types.is_datetime64_any_dtype(values):
        values = pd.qcut(values, 4, duplicates="drop")
    return values.astype(object).where(values.notna(), NULL).astype(str)


def _join_names(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
