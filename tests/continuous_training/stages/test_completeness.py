"""Check data: days that did not arrive, and rows that arrived twice."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from continuous_training.stages.data_checks.completeness import compare_with_usual
from pipeline import Pipeline
from toy import change, events, store

if TYPE_CHECKING:
    from continuous_training.documents import Check

pytestmark = pytest.mark.usefixtures("workspace")

FRESH = "completeness of the fresh rows"  # 14 days from 15 February on
TRAINING = "completeness of the training rows"  # 45 days


def check(monkeypatch: pytest.MonkeyPatch, frame: pd.DataFrame) -> dict[str, Check]:
    store(frame)
    return {check.name: check for check in Pipeline(monkeypatch).check_data()}


def without(*days: str) -> pd.DataFrame:
    """Return the events but for those of some days."""
    return events()[lambda rows: ~rows["seen"].dt.strftime("%Y-%m-%d").isin(days)]


class TestDays:
    def test_days_of_the_usual_number_of_rows_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        checks = check(monkeypatch, events())
        assert checks[FRESH].message == "none of 14 days has far fewer rows than usual"
        assert checks[TRAINING].message == "none of 45 days has far fewer rows than usual"

    def test_more_empty_days_than_allowed_fail_and_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        checks = check(monkeypatch, without("2020-02-18", "2020-02-19", "2020-02-20"))
        assert not checks[FRESH].passed
        assert checks[FRESH].message == (
            "3 of 14 days have far fewer rows than usual: 2020-02-18 (0 of 40 rows), 2020-02-19 (0 of 40 rows) and "
            "2020-02-20 (0 of 40 rows); 21.4%, where checks.max_missing_share allows 15%"
        )
        assert checks[TRAINING].passed

    def test_as_many_as_allowed_pass_and_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("max_age_days: 3", f"max_age_days: 3, max_missing_share: {2 / 14}")
        checks = check(monkeypatch, without("2020-02-18", "2020-02-20"))
        assert checks[FRESH].passed
        assert checks[FRESH].message.startswith("2 of 14 days have far fewer rows than usual: 2020-02-18")

    def test_the_training_window_has_a_limit_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        checks = check(monkeypatch, without(*(f"2020-01-{day}" for day in range(10, 18))))
        assert checks[FRESH].passed
        assert not checks[TRAINING].passed
        assert "8 of 45 days" in checks[TRAINING].message
        assert checks[TRAINING].message.count("(0 of 40 rows)") == 5
        assert " and 3 more; " in checks[TRAINING].message

    @pytest.mark.parametrize(("rows", "is_missing"), [(7, True), (8, False)])
    def test_a_day_is_missing_below_a_share_of_the_usual_rows(
        self, monkeypatch: pytest.MonkeyPatch, rows: int, *, is_missing: bool
    ) -> None:
        frame = events()
        day = frame[frame["seen"].dt.date == pd.Timestamp("2020-02-18").date()]
        message = check(monkeypatch, frame.drop(day.index[rows:]))[FRESH].message
        assert (f"2020-02-18 ({rows} of 40 rows)" in message) is is_missing

    def test_weekends_without_rows_are_usual(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = events()[lambda rows: rows["seen"].dt.dayofweek < 5]
        assert check(monkeypatch, frame)[FRESH].message == "none of 10 days has far fewer rows than usual"

    def test_data_that_begin_within_the_training_window_are_complete(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = events()[lambda rows: rows["seen"] >= "2020-01-20"]
        assert check(monkeypatch, frame)[TRAINING].message == "none of 26 days has far fewer rows than usual"


class TestHours:
    def test_dense_data_are_compared_by_the_hour(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = events(per_day=1440)
        lost = frame["seen"].between("2020-02-18 09:00", "2020-02-18 10:59:59")
        checks = check(monkeypatch, frame[~lost])
        assert checks[FRESH].passed
        assert checks[FRESH].message.startswith(
            "2 of 336 hours have far fewer rows than usual: 2020-02-18 09:00 (0 of 60 rows) and 2020-02-18 10:00 (0 of"
        )


class TestUsual:
    def test_it_is_the_median_of_the_weekday(self) -> None:
        begin = datetime(2020, 1, 6)
        counts = {begin + timedelta(days=7 * week): rows for week, rows in enumerate((10, 30, 20))}
        periods = compare_with_usual(counts, begin + timedelta(days=21), timedelta(days=1))
        assert [(period.rows, period.usual) for period in periods] == [(10, 20), (30, 20), (20, 20)]

    @pytest.mark.parametrize(("rows", "days"), [(4, 0), (5, 3)])
    def test_days_of_few_rows_are_left_out(self, rows: int, days: int) -> None:
        begin = datetime(2020, 1, 6)
        counts = {begin + timedelta(days=7 * week): rows for week in range(3)}
        assert len(compare_with_usual(counts, begin + timedelta(days=21), timedelta(days=1))) == days

    def test_a_day_that_has_not_ended_is_left_out(self) -> None:
        begin = datetime(2020, 1, 6)
        assert len(compare_with_usual({begin: 9}, begin + timedelta(hours=23), timedelta(days=1))) == 0

    def test_without_rows_there_are_none(self) -> None:
        assert compare_with_usual({}, datetime(2020, 1, 6), timedelta(days=1)) == []


class TestCopies:
    @pytest.mark.parametrize(("share", "passed"), [(0.1, True), (0.11, False)])
    def test_rows_that_were_ingested_twice_are_counted_and_beyond_a_limit_refused(
        self, monkeypatch: pytest.MonkeyPatch, share: float, *, passed: bool
    ) -> None:
        frame = events()
        window = frame[frame["seen"] < "2020-02-29"]
        copies = window.head(round(share / (1 - share) * len(window)))
        copied = check(monkeypatch, pd.concat([frame, copies.assign(id=copies["id"] + 100_000)]))["copies"]
        assert copied.passed is passed
        percent = 100 * len(copies) / (len(copies) + len(window))
        assert copied.message.startswith(f"{len(copies)} rows, {percent:.3g}%, ")
        assert "are equal to another one but for id, as if they had been ingested twice" in copied.message

    def test_rows_that_differ_are_no_copies(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert check(monkeypatch, events())["copies"].message == "no row is equal to another one but for id"

    def test_rows_of_several_stations_may_be_alike(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("key: [id]", "key: [id, seen]")  # id is that of a station
        frame = pd.concat([events().assign(id=station) for station in range(3)])
        assert "copies" not in check(monkeypatch, frame)
