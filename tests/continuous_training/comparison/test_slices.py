"""Slices: every row is judged in one of them, and none is too small to tell anything."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from continuous_training.comparison import slices
from continuous_training.comparison.cases import count_by_class, count_cases, count_groups

VALUES = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.booleans()), min_size=1, max_size=60)


@given(rows=VALUES, needed=st.integers(1, 12))
@settings(deadline=None)
def test_every_row_is_in_exactly_one_slice(rows: list[tuple[str | None, bool]], needed: int) -> None:
    column, truth = pd.Series([one for one, _ in rows], name="c"), pd.Series([late for _, late in rows])
    for classes in (None, truth):
        found = slices.slice_by_value(column, classes, None, needed)
        assert sorted(np.concatenate([part.rows for part in found])) == list(range(len(rows)))


@given(rows=VALUES, needed=st.integers(1, 12))
@settings(deadline=None)
def test_a_slice_has_the_cases_it_needs_if_all_rows_together_have_them(
    rows: list[tuple[str | None, bool]], needed: int
) -> None:
    column, truth = pd.Series([one for one, _ in rows], name="c"), pd.Series([late for _, late in rows])
    if count_cases(len(rows), count_by_class(truth), None) < needed:
        return
    for part in slices.slice_by_value(column, truth, None, needed):
        assert count_cases(len(part.rows), count_by_class(truth.iloc[part.rows]), None) >= needed


def test_rare_values_are_judged_together_and_named() -> None:
    column = pd.Series(["UA"] * 50 + ["AA"] * 50 + ["HA"] * 6 + ["OO"] * 6, name="carrier")
    found = slices.slice_by_value(column, None, None, 10)
    assert [part.name for part in found] == ["carrier = AA", "carrier = UA", "carrier = HA, OO"]


def test_a_single_rare_value_takes_the_smallest_other_one_with_it() -> None:
    column = pd.Series(["UA"] * 50 + ["AA"] * 20 + ["HA"] * 3, name="carrier")
    assert [part.name for part in slices.slice_by_value(column, None, None, 10)] == ["carrier = UA", "carrier = AA, HA"]


def test_numbers_of_many_values_are_divided_into_quarters() -> None:
    found = slices.slice_by_value(pd.Series(np.arange(100.0), name="age"), None, None, 5)
    assert [len(part.rows) for part in found] == [25, 25, 25, 25]


def test_a_missing_value_is_a_value() -> None:
    found = slices.slice_by_value(pd.Series([1.0, None, 1.0, None], name="age"), None, None, 1)
    assert [part.name for part in found] == ["age = 1.0", "age = null"]


def test_rows_of_one_class_are_no_cases() -> None:
    assert count_cases(2, count_by_class(pd.Series([True, True])), None) == 0
    assert count_cases(3, count_by_class(pd.Series([True, False, False])), None) == 1
    assert count_cases(7, None, None) == 7


def test_rows_that_are_drawn_together_are_one_case() -> None:
    hours = np.array([1, 1, 1, 2, 2, 2, 3])
    assert count_cases(7, None, count_groups(hours)) == 3
    column = pd.Series(["UA", "UA", "AA", "UA", "AA", "AA", "UA"], name="carrier")
    assert [part.name for part in slices.slice_by_value(column, None, hours, 3)] == ["carrier = AA, UA"]
