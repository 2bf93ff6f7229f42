"""The live windows: of which days the champion's answers are measured."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuous_training.monitoring import live
from continuous_training.monitoring.profile import Profile
from continuous_training.monitoring.reference import Learnt
from continuous_training.settings import Settings, load_settings

JUDGED_UNTIL = datetime(2020, 2, 29)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2020, 12, 31))


@pytest.fixture(scope="module")
def flights() -> Settings:
    return load_settings("flight_delays")


def learnt(judged_until: datetime | None = JUDGED_UNTIL) -> Learnt:
    return Learnt(
        rows=5000,
        since=datetime(2019, 2, 1),
        until=JUDGED_UNTIL - timedelta(days=28),
        judged_until=judged_until,
        window_days=7,
        columns={},
        prediction=Profile(test="wasserstein", null_share=0, distances=[]),
        classes=None,
        measured=None,
    )


@given(as_of=moments)
def test_they_are_whole_follow_one_another_and_end_where_labels_are_known(flights: Settings, as_of: datetime) -> None:
    found = live.windows(flights, learnt(), as_of)
    assert all(until - since == timedelta(days=7) for since, until in found)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(found))
    assert not found or found[-1][1] == as_of - timedelta(days=2)


@given(as_of=moments)
def test_none_has_rows_that_the_version_knew_before(flights: Settings, as_of: datetime) -> None:
    assert all(since >= JUDGED_UNTIL for since, _ in live.windows(flights, learnt(), as_of))


@pytest.mark.parametrize(("days", "windows"), [(0, 0), (8, 0), (9, 1), (15, 1), (16, 2), (30, 4), (300, 4)])
def test_they_are_as_many_as_the_fresh_rows_had_or_as_there_were_since(
    flights: Settings, days: int, windows: int
) -> None:
    assert len(live.windows(flights, learnt(), JUDGED_UNTIL + timedelta(days=days))) == windows


def test_they_are_two_at_least_however_few_the_fresh_rows_had(flights: Settings) -> None:
    few = flights.model_copy(update={"data": flights.data.model_copy(update={"fresh_days": 7})})
    assert len(live.windows(few, learnt(), datetime(2020, 12, 31))) == 2


@given(as_of=moments)
def test_of_a_version_that_does_not_tell_it_was_judged_as_training_yaml_has_it(
    flights: Settings, as_of: datetime
) -> None:
    assert live.windows(flights, learnt(None), as_of) == live.windows(flights, learnt(), as_of)
