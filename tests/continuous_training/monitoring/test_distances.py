"""Distances and their limits: no drift between equal windows, false alarms as configured, the same as Evidently."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from continuous_training.monitoring import distances, profile
from continuous_training.settings import load_settings
from toy import events

TESTS = ("wasserstein", "jensenshannon")

window_distances = st.integers(1, 30).flatmap(
    lambda windows: st.dictionaries(
        st.sampled_from("abcdef"), st.lists(st.floats(0.001, 10), min_size=windows, max_size=windows), min_size=1
    )
)
alarms = st.floats(0.01, 0.9)


def drifted_columns(columns: dict[str, list[float]], window: int, factor: float) -> set[str]:
    return {
        name
        for name, values in columns.items()
        if values[window] > factor * distances.mean_distance(values) * (1 + 1e-9)
    }


@given(window_distances, alarms)
def test_at_most_the_configured_share_of_the_training_windows_counts_as_drifted(
    columns: dict[str, list[float]], share: float
) -> None:
    factor = distances.limit_factor(columns, share)
    windows = len(next(iter(columns.values())))
    assert sum(bool(drifted_columns(columns, window, factor)) for window in range(windows)) <= share * windows


@given(window_distances, alarms, alarms)
def test_fewer_false_alarms_never_lower_the_limit(columns: dict[str, list[float]], one: float, other: float) -> None:
    fewer, more = sorted([one, other])
    assert distances.limit_factor(columns, fewer) >= distances.limit_factor(columns, more)


@given(window_distances, alarms)
def test_a_column_among_many_has_no_lower_limit_than_alone(columns: dict[str, list[float]], share: float) -> None:
    together = distances.limit_factor(columns, share)
    for name, values in columns.items():
        assert together >= distances.limit_factor({name: values}, share) - 1e-9


@given(window_distances, alarms)
def test_a_column_without_values_does_not_change_the_limits_of_others(
    columns: dict[str, list[float]], share: float
) -> None:
    windows = len(next(iter(columns.values())))
    assert distances.limit_factor(columns | {"empty": [math.nan] * windows}, share) == distances.limit_factor(
        columns, share
    )


numbers = arrays.arrays(np.float64, st.integers(30, 200), elements=st.floats(-1000, 1000, width=32))


@pytest.mark.parametrize("test", TESTS)
@given(values=numbers)
@settings(max_examples=40, deadline=None)
def test_the_distance_of_equal_samples_is_zero(test: distances.DriftTest, values: np.ndarray) -> None:
    column = pd.Series(values if test == "wasserstein" else np.round(values).astype(str))
    assert distances.distance(test, column, column.sample(frac=1, random_state=1)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("test", TESTS)
def test_a_sample_of_the_reference_is_rarely_further_away_than_the_sampling_noise(test: distances.DriftTest) -> None:
    random = np.random.default_rng(5)
    values = random.normal(size=4000)
    reference = pd.Series(values if test == "wasserstein" else np.round(values * 3).astype(str))
    exceeded = sum(
        distances.distance(test, reference, reference.sample(600, replace=True, random_state=seed))
        > distances.sampling_noise(test, reference, 600)
        for seed in range(40)
    )
    assert exceeded <= 4


def test_fewer_rows_have_more_sampling_noise() -> None:
    reference = pd.Series(np.random.default_rng(5).normal(size=4000))
    assert distances.sampling_noise("wasserstein", reference, 100) > 2 * distances.sampling_noise(
        "wasserstein", reference, 4000
    )


@pytest.mark.parametrize("test", TESTS)
def test_evidently_computes_the_same_distance(test: distances.DriftTest) -> None:
    from evidently.legacy.calculations.stattests import jensenshannon_stat_test, wasserstein_stat_test
    from evidently.legacy.calculations.stattests.registry import get_stattest
    from evidently.legacy.core import ColumnType

    random = np.random.default_rng(5)
    column_type = ColumnType.Numerical if test == "wasserstein" else ColumnType.Categorical
    pair = [pd.Series(random.normal(shift, size=500)) for shift in (0, 0.4)]
    if test == "jensenshannon":
        pair = [values.round().astype(str) for values in pair]
    stat_test = wasserstein_stat_test if test == "wasserstein" else jensenshannon_stat_test
    evidently_distance = get_stattest(*pair, column_type, stat_test)(*pair, column_type, 0.1).drift_score
    assert distances.distance(test, *pair) == pytest.approx(evidently_distance)


@pytest.fixture
def rows(workspace: Path) -> pd.DataFrame:
    """Write a snapshot's file with four weeks and two days of events; x is shifted in the last week."""
    frame = events(days=30, per_day=200)
    frame.loc[frame["seen"] > frame["seen"].max() - pd.Timedelta(days=7), "x"] += 1
    frame.to_parquet(workspace / "train.parquet")
    return frame


def test_the_distances_of_the_training_windows_equal_those_of_samples(rows: pd.DataFrame) -> None:
    profiles = profile.profile_columns(Path("train.parquet"), load_settings("toy"))
    weeks_before_end = ((rows["seen"].max() - rows["seen"]) / pd.Timedelta(days=7)).astype(int)
    for name, test in {"x": "wasserstein", "y": "wasserstein", "shade": "jensenshannon"}.items():
        expected = [distances.distance(test, rows[name], rows[name][weeks_before_end == week]) for week in range(4)]
        assert profiles[name].window_distances == pytest.approx(expected, abs=0.006)
    assert profiles["x"].window_distances[0] > 5 * max(profiles["x"].window_distances[1:]) / 2


def test_constant_and_empty_columns_have_a_profile(workspace: Path) -> None:
    frame = events(days=30)
    frame["x"], frame["y"] = 3.0, None
    frame["y"] = frame["y"].astype("float64")
    frame.to_parquet(workspace / "train.parquet")
    profiles = profile.profile_columns(Path("train.parquet"), load_settings("toy"))
    assert (profiles["x"].distances, profiles["y"].distances) == ([0, 0, 0, 0], [])
    assert (profiles["x"].null_share, profiles["y"].null_share) == (0, 1)


def test_a_week_without_values_has_no_distance(rows: pd.DataFrame) -> None:
    rows.loc[rows["seen"] > rows["seen"].max() - pd.Timedelta(days=7), ["y", "shade"]] = None
    rows.to_parquet("train.parquet")
    profiles = profile.profile_columns(Path("train.parquet"), load_settings("toy"))
    assert [profiles[name].distances[0] for name in ("y", "shade")] == [None, None]
    assert {len(column.distances) for column in profiles.values()} == {4}
