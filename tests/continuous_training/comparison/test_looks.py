"""Repeated looks: how much of the error rate each comparison may use, through kills and reruns too."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

import numpy as np
import pytest

from continuous_training.comparison import bootstrap
from continuous_training.comparison.looks import MAX_SAVED, confidence_of, next_look
from continuous_training.documents import Look
from continuous_training.registry import looks as tracked_looks
from continuous_training.registry import runs
from continuous_training.settings import Compare
from nightly_runs import Nights, first_promotions, snapshot_until
from pipeline import Pipeline
from toy import change

FIRST = datetime(2020, 3, 1)
SINGLE = MAX_SAVED - 1 / 30


def make_limits(**more: float | None) -> Compare:
    return Compare(metric="roc_auc", first={"roc_auc": 0.6}, **more)


def look_on(days: list[float], *, champion: str = "1", **more: float | None) -> list[Look]:
    """Return the looks of runs whose newest rows are so many days after the first, in their order."""
    looks: list[Look] = []
    for number, day in enumerate(days):
        newest = FIRST + timedelta(days=day)
        look = next_look(looks[::-1], make_limits(**more), f"candidate {number}", champion, snapshot_until(newest))
        looks.append(look)
    return looks


def spent_on(days: list[float], **more: float | None) -> list[float]:
    return [look.spent for look in look_on(days, **more)]


class TestErrorRate:
    def test_a_single_run_has_all_that_a_pause_saves_but_a_days_share(self) -> None:
        (look,) = look_on([0])
        assert look.number == 1
        assert look.spent == pytest.approx(SINGLE)
        assert look.left == pytest.approx(1 / 30)

    def test_a_run_of_every_night_spends_what_the_new_rows_bring(self) -> None:
        assert spent_on([*range(40)])[1:] == pytest.approx([1 / 30] * 39)

    def test_a_run_of_every_week_spends_a_weeks_share(self) -> None:
        assert spent_on([0, 7, 14])[1:] == pytest.approx([7 / 30] * 2)

    @pytest.mark.parametrize("gap", [23, 31, 400])
    def test_runs_that_are_far_apart_are_as_single_ones(self, gap: int) -> None:
        assert spent_on([0, gap])[1] == pytest.approx(SINGLE)

    def test_a_run_on_the_same_rows_has_half_of_what_is_left(self) -> None:
        assert spent_on([0, 0, 0])[1:] == pytest.approx([1 / 60, 1 / 120])

    def test_a_run_on_older_rows_brings_nothing_new(self) -> None:
        assert spent_on([0, -5, 1])[1:] == pytest.approx(
            [1 / 60, 1 / 40]
        )  # the next day brings 1/30, and half of all is spent

    def test_a_new_champion_brings_no_new_error_rate(self) -> None:
        before = look_on([0])
        look = next_look(before, make_limits(), "another", "2", snapshot_until(FIRST + timedelta(days=1)))
        assert look.spent == pytest.approx(1 / 30)

    @pytest.mark.parametrize("gaps", [[1] * 90, [0.25] * 200, [7] * 20, [3, 0, 0, 11] * 10, [40, 1, 1, 1] * 8])
    def test_in_no_period_is_more_spent_than_it_brings_and_a_pause_saves(self, gaps: list[float]) -> None:
        days = [*itertools.accumulate([0.0, *gaps])]
        spent = spent_on(days)
        for start in days:
            period = [share for day, share in zip(days, spent, strict=True) if start <= day < start + 30]
            assert sum(period) <= MAX_SAVED + 1
        steady = [share for day, share in zip(days, spent, strict=True) if 31 <= day < 61]
        if max(gaps) <= 1:
            assert sum(steady) <= 1 + 1 / 15

    def test_it_can_be_switched_off(self) -> None:
        looks = look_on([0, 1, 2], error_rate_days=None)
        assert [(look.spent, look.number) for look in looks] == [(1, 1)] * 3
        assert confidence_of(looks[2], make_limits(error_rate_days=None)) == 0.95

    def test_the_number_counts_the_looks_of_the_period(self) -> None:
        assert [look.number for look in look_on([0, 1, 2, 29.5, 30, 32])] == [1, 2, 3, 4, 4, 3]

    def test_the_confidence_grows_as_the_share_shrinks(self) -> None:
        look = look_on([0, 1])[1]
        assert confidence_of(look, make_limits()) == pytest.approx(1 - 0.05 / 30)

    def test_the_same_candidate_beside_the_same_champion_is_the_same_look(self) -> None:
        first, second, third = look_on([0, 1, 2])
        again = next_look([third, second, first], make_limits(), "candidate 1", "1", snapshot_until(second.newest))
        assert again == second
        other = next_look([third, second, first], make_limits(), "candidate 1", "2", snapshot_until(second.newest))
        assert other.number == 4
        assert other.spent == pytest.approx(1 / 60)


class TestNightlyRuns:
    """Series of 30 nights, as in tests/benchmarks/repeated_looks.py."""

    SERIES = 250

    def promotions(self, *, error_rate_days: int | None = 30, **kind: float) -> np.ndarray:
        limits = make_limits(resamples=300, error_rate_days=error_rate_days)
        return first_promotions(Nights(**kind), limits, self.SERIES)

    @pytest.mark.parametrize("likeness", [0.0, 0.9])
    def test_equal_models_are_rarely_promoted_in_a_month(self, likeness: float) -> None:
        assert (self.promotions(likeness=likeness, earlier=30) > 0).mean() <= 0.05
        assert (self.promotions(likeness=likeness) > 0).mean() <= 0.07  # the first night after a pause has most
        assert (self.promotions(likeness=likeness, error_rate_days=None) > 0).mean() > 0.15

    def test_a_better_model_is_promoted_some_nights_later(self) -> None:
        nights = self.promotions(gain=4.2, likeness=0.9, earlier=30)
        assert ((nights > 0) & (nights <= 7)).mean() > 0.9


class TestInterval:
    differences = np.random.default_rng(0).normal(1, 2, size=20_000)

    def test_a_higher_confidence_widens_it_as_the_quantiles_of_t_do(self) -> None:
        confidence = 1 - 0.05 / 30
        low, high = bootstrap.interval(self.differences, 0.95, decisive=confidence, cases=100_000) or (0, 0)
        assert (low, high) == pytest.approx((1 - 2 * 3.1440, 1 + 2 * 3.1440), abs=0.15)
        few_low, few_high = bootstrap.interval(self.differences, 0.95, decisive=confidence, cases=40) or (0, 0)
        ratio = (few_high - few_low) / (high - low)
        assert ratio == pytest.approx((3.3786 / 2.0227) / (3.1440 / 1.9600), rel=0.01)

    def test_the_configured_confidence_leaves_the_percentiles(self) -> None:
        percentiles = bootstrap.interval(self.differences, 0.95)
        assert bootstrap.interval(self.differences, 0.95, decisive=0.95, cases=40) == percentiles
        assert percentiles == pytest.approx(tuple(np.quantile(self.differences, [0.025, 0.975])))

    def test_a_skewed_distribution_stays_skewed(self) -> None:
        low, high = bootstrap.interval(np.exp(self.differences), 0.95, decisive=0.999, cases=1000) or (0, 0)
        median = np.exp(1)
        assert high - median > 5 * (median - low)


@pytest.mark.usefixtures("mlflow_workspace")
def test_runs_of_several_nights_are_counted_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    Pipeline(monkeypatch).promote()
    verdicts = [Pipeline(monkeypatch, AS_OF=day).compare() for day in ("2020-03-17", "2020-03-18")]
    assert [verdict.look and verdict.look.number for verdict in verdicts] == [1, 2]
    first, second = (verdict.look for verdict in verdicts)
    assert first
    assert second
    assert first.spent == pytest.approx(SINGLE)
    assert second.spent == pytest.approx(1 / 30, rel=1e-3)
    assert verdicts[1].confidence == pytest.approx(1 - 0.05 / 30, abs=1e-5)
    assert "This is comparison 2 on nearly the same rows: the intervals have 99.83% confidence" in verdicts[1].summary
    assert "99.83% confidence" in verdicts[1].message
    assert second.days == 14
    low, high = verdicts[1].metrics[0].difference or (0, 0)
    assert second.standard_error == verdicts[1].metrics[0].standard_error == pytest.approx((high - low) / 6.3, rel=0.3)

    change("resamples: 200", "resamples: 210")  # other rules: the rejected candidate is compared again
    again = Pipeline(monkeypatch, AS_OF="2020-03-18").compare()
    assert again.look
    assert again.look.model_copy(update={"standard_error": None}) == second.model_copy(update={"standard_error": None})
    client = Pipeline(monkeypatch).client
    assert len(tracked_looks.find(client, "toy")) == 2


@pytest.mark.usefixtures("mlflow_workspace")
def test_a_first_model_and_one_that_cannot_be_compared_use_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Pipeline(monkeypatch)
    first.promote()
    assert first.verdict.look is None
    assert first.verdict.look_message is None
    change("resamples: 200", "resamples: 10000\n  confidence: 0.999")
    verdict = Pipeline(monkeypatch, AS_OF="2020-03-17").compare()
    assert "99.9% confidence needs 2,000" in verdict.message
    assert verdict.look is None
    assert tracked_looks.find(first.client, "toy") == []


@pytest.mark.usefixtures("mlflow_workspace")
def test_a_tag_that_is_no_look_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = Pipeline(monkeypatch)
    run.compare()
    run.client.set_tag(run.candidate.run_id, tracked_looks.LOOK, '{"spent": -1}')
    assert tracked_looks.find(run.client, "toy") == []
    assert "the comparison is not counted" in caplog.text
    assert runs.find_training_run(run.client, "toy", run.plan.fingerprint)
