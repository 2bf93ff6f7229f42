"""The evaluation windows: the periods on which the live metric is computed."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import wide_model
from continuous_training.monitoring.evaluation_windows import evaluation_windows
from continuous_training.monitoring.reference import ReferenceProfile
from continuous_training.settings import Settings

FRESH_UNTIL = datetime(2020, 2, 29)
times = st.datetimes(datetime(2020, 1, 1), datetime(2020, 12, 31))


def make_settings(fresh_days: int = 28) -> Settings:
    """Return settings with windows of 7 days and labels that are known after 2 days."""
    settings = Settings.model_validate(yaml.safe_load(wide_model.TRAINING))
    data = settings.data.model_copy(update={"fresh_days": fresh_days, "label_delay_days": 2})
    return settings.model_copy(update={"data": data})


SETTINGS = make_settings()


def reference_profile(fresh_until: datetime | None = FRESH_UNTIL) -> ReferenceProfile:
    return ReferenceProfile(
        rows=5000,
        since=datetime(2019, 2, 1),
        until=FRESH_UNTIL - timedelta(days=28),
        fresh_until=fresh_until,
        window_days=7,
        columns={},
        predictions={},
        classes=None,
        baseline=None,
    )


@given(as_of=times)
def test_windows_are_whole_and_adjacent_and_end_where_labels_are_known(as_of: datetime) -> None:
    windows = evaluation_windows(SETTINGS, reference_profile(), as_of)
    assert all(until - since == timedelta(days=7) for since, until in windows)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(windows))
    assert not windows or windows[-1][1] == as_of - timedelta(days=2)


@given(as_of=times)
def test_no_window_overlaps_the_fresh_rows(as_of: datetime) -> None:
    assert all(since >= FRESH_UNTIL for since, _ in evaluation_windows(SETTINGS, reference_profile(), as_of))


@pytest.mark.parametrize(("days", "windows"), [(0, 0), (8, 0), (9, 1), (15, 1), (16, 2), (30, 4), (300, 4)])
def test_the_number_of_windows_is_limited_by_the_fresh_rows_and_by_the_time_since_then(days: int, windows: int) -> None:
    assert len(evaluation_windows(SETTINGS, reference_profile(), FRESH_UNTIL + timedelta(days=days))) == windows


def test_there_are_at_least_two_windows() -> None:
    assert len(evaluation_windows(make_settings(fresh_days=7), reference_profile(), datetime(2020, 12, 31))) == 2


@given(as_of=times)
def test_an_old_profile_without_fresh_until_uses_the_fresh_days_in_training_yaml(as_of: datetime) -> None:
    assert evaluation_windows(SETTINGS, reference_profile(None), as_of) == evaluation_windows(
        SETTINGS, reference_profile(), as_of
    )
