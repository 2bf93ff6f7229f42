"""Distances and their limits: equal windows never drift, many columns give no more alarms, and Evidently agrees."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from continuous_training import settings as training
from continuous_training.monitoring import distances, profile
from toy import events

TESTS = ("wasserstein", "jensenshannon")

measured = st.integers(1, 30).flatmap(
    lambda windows: st.dictionaries(
        st.sampled_from("abcdef"), st.lists(st.floats(0.001, 10), min_size=windows, max_size=windows), min_size=1
    )
)
alarms = st.floats(0.01, 0.9)


def moved(found: dict[str, list[float]], window: int, times: float) -> set[str]:
    return {name for name, each in found.items() if each[window] > times * distances.usual(each) * (1 + 1e-9)}


@given(measured, alarms)
def test_no_more_of_the_learnt_windows_would_be_called_moved_than_is_allowed(
    found: dict[str, list[float]], share: float
) -> None:
    times = distances.factor(found, share)
    windows = len(next(iter(found.values())))
    assert sum(bool(moved(found, window, times)) for window in range(windows)) <= share * windows


@given(measured, alarms, alarms)
def test_who_allows_fewer_false_alarms_gets_no_lower_limit(
    found: dict[str, list[float]], one: float, other: float
) -> None:
    fewer, more = sorted([one, other])
    assert distances.factor(found, fewer) >= distances.factor(found, more)


@given(measured, alarms)
def test_many_columns_give_no_finding_that_one_alone_would_not(found: dict[str, list[float]], share: float) -> None:
    together = distances.factor(found, share)
    for name, each in found.items():
        assert together >= distances.factor({name: each}, share) - 1e-9


@given(measured, alarms)
def test_a_window_without_values_changes_nothing_for_others(found: dict[str, list[float]], share: float) -> None:
    windows = len(next(iter(found.values())))
    assert distances.factor(found | {"empty": [math.nan] * windows}, share) == distances.factor(found, share)


numbers = arrays.arrays(np.float64, st.integers(30, 200), elements=st.floats(-1000, 1000, width=32))


@pytest.mark.parametrize("test", TESTS)
@given(values=numbers)
@settings(max_examples=40, deadline=None)
def test_equal_windows_are_no_distance_apart(test: distances.Test, values: np.ndarray) -> None:
    column = pd.Series(values if test == "wasserstein" else np.round(values).astype(str))
    assert distances.between(test, column, column.sample(frac=1, random_state=1)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("test", TESTS)
def test_a_sample_of_what_was_learnt_is_hardly_ever_further_than_chance_takes_it(test: distances.Test) -> None:
    random = np.random.default_rng(5)
    values = random.normal(size=4000)
    reference = pd.Series(values if test == "wasserstein" else np.round(values * 3).astype(str))
    further = sum(
        distances.between(test, reference, reference.sample(600, replace=True, random_state=seed))
        > distances.by_chance(test, reference, 600)
        for seed in range(40)
    )
    assert further <= 4


def test_fewer_rows_are_taken_further_by_chance() -> None:
    reference = pd.Series(np.random.default_rng(5).normal(size=4000))
    assert distances.by_chance("wasserstein", reference, 100) > 2 * distances.by_chance("wasserstein", reference, 4000)


@pytest.mark.parametrize("test", TESTS)
def test_evidently_measures_the_same(test: distances.Test) -> None:
    from evidently.legacy.calculations.stattests import jensenshannon_stat_test, wasserstein_stat_test
    from evidently.legacy.calculations.stattests.registry import get_stattest
    from evidently.legacy.core import ColumnType

    random = np.random.default_rng(5)
    kind = ColumnType.Numerical if test == "wasserstein" else ColumnType.Categorical
    pair = [pd.Series(random.normal(shift, size=500)) for shift in (0, 0.4)]
    if test == "jensenshannon":
        pair = [values.round().astype(str) for values in pair]
    asked = wasserstein_stat_test if test == "wasserstein" else jensenshannon_stat_test
    theirs = get_stattest(*pair, kind, asked)(*pair, kind, 0.1).drift_score
    assert distances.between(test, *pair) == pytest.approx(theirs)


@pytest.fixture
def rows(workspace: Path) -> pd.DataFrame:
    """Four weeks and two days of events, as a snapshot's file has them; the last week's x is another."""
    frame = events(days=30, a_day=200)
    frame.loc[frame["seen"] > frame["seen"].max() - pd.Timedelta(days=7), "x"] += 1
    frame.to_parquet(workspace / "train.parquet")
    return frame


def test_the_windows_of_the_training_rows_are_measured_as_samples_are(rows: pd.DataFrame) -> None:
    found = profile.profiles(Path("train.parquet"), training.load("toy"))
    back = ((rows["seen"].max() - rows["seen"]) / pd.Timedelta(days=7)).astype(int)
    for name, test in {"x": "wasserstein", "y": "wasserstein", "shade": "jensenshannon"}.items():
        by_hand = [distances.between(test, rows[name], rows[name][back == week]) for week in range(4)]
        assert found[name].measured == pytest.approx(by_hand, abs=0.006)
    assert found["x"].measured[0] > 5 * max(found["x"].measured[1:]) / 2


def test_a_number_that_never_changes_and_one_that_is_hardly_ever_there_have_profiles_too(workspace: Path) -> None:
    frame = events(days=30)
    frame["x"], frame["y"] = 3.0, None
    frame["y"] = frame["y"].astype("float64")
    frame.to_parquet(workspace / "train.parquet")
    found = profile.profiles(Path("train.parquet"), training.load("toy"))
    assert (found["x"].distances, found["y"].distances) == ([0, 0, 0, 0], [])
    assert (found["x"].null_share, found["y"].null_share) == (0, 1)


def test_a_column_without_any_value_in_one_week_has_no_distance_for_that_week(rows: pd.DataFrame) -> None:
    rows.loc[rows["seen"] > rows["seen"].max() - pd.Timedelta(days=7), ["y", "shade"]] = None
    rows.to_parquet("train.parquet")
    found = profile.profiles(Path("train.parquet"), training.load("toy"))
    assert [found[name].distances[0] for name in ("y", "shade")] == [None, None]
    assert {len(each.distances) for each in found.values()} == {4}
