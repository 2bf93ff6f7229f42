"""Slices: every row is in one of them, and each has enough cases."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from continuous_training.comparison import slices
from continuous_training.comparison.cases import count_by_class, count_cases, count_groups

ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.booleans()), min_size=1, max_size=60)


def split(rows: list[tuple[str | None, bool]]) -> tuple[pd.Series, pd.Series]:
    """Return the column and the labels."""
    return pd.Series([value for value, _ in rows], name="c"), pd.Series([label for _, label in rows])


@given(rows=ROWS, min_cases=st.integers(1, 12))
@settings(deadline=None)
def test_every_row_is_in_exactly_one_slice(rows: list[tuple[str | None, bool]], min_cases: int) -> None:
    column, labels = split(rows)
    for classes in (None, labels):
        parts = slices.slice_by_value(column, classes, None, min_cases)
        assert sorted(np.concatenate([part.rows for part in parts])) == list(range(len(rows)))


@given(rows=ROWS, min_cases=st.integers(1, 12))
@settings(deadline=None)
def test_a_slice_has_enough_cases_if_all_rows_have_enough(rows: list[tuple[str | None, bool]], min_cases: int) -> None:
    column, labels = split(rows)
    if count_cases(len(rows), count_by_class(labels), None) < min_cases:
        return
    for part in slices.slice_by_value(column, labels, None, min_cases):
        assert count_cases(len(part.rows), count_by_class(labels.iloc[part.rows]), None) >= min_cases


def test_rare_values_form_one_slice_with_their_names() -> None:
    column = pd.Series(["UA"] * 50 + ["AA"] * 50 + ["HA"] * 6 + ["OO"] * 6, name="carrier")
    parts = slices.slice_by_value(column, None, None, 10)
    assert [part.name for part in parts] == ["carrier = AA", "carrier = UA", "carrier = HA, OO"]


def test_a_single_rare_value_is_combined_with_the_smallest_other_one() -> None:
    column = pd.Series(["UA"] * 50 + ["AA"] * 20 + ["HA"] * 3, name="carrier")
    assert [part.name for part in slices.slice_by_value(column, None, None, 10)] == ["carrier = UA", "carrier = AA, HA"]


def test_a_number_with_many_values_is_sliced_by_its_quartiles() -> None:
    parts = slices.slice_by_value(pd.Series(np.arange(100.0), name="age"), None, None, 5)
    assert [len(part.rows) for part in parts] == [25, 25, 25, 25]


def test_nulls_are_a_slice() -> None:
    parts = slices.slice_by_value(pd.Series([1.0, None, 1.0, None], name="age"), None, None, 1)
    assert [part.name for part in parts] == ["age = 1.0", "age = null"]


def test_rows_of_a_single_class_are_no_cases() -> None:
    assert count_cases(2, count_by_class(pd.Series([True, True])), None) == 0
    assert count_cases(3, count_by_class(pd.Series([True, False, False])), None) == 1
    assert count_cases(7, None, None) == 7


def test_the_rows_of_a_group_are_one_case() -> None:
    hours = np.array([1, 1, 1, 2, 2, 2, 3])
    assert count_cases(7, None, count_groups(hours)) == 3
    column = pd.Series(["UA", "UA", "AA", "UA", "AA", "AA", "UA"], name="carrier")
    assert [part.name for part in slices.slice_by_value(column, None, hours, 3)] == ["carrier = AA, UA"]
