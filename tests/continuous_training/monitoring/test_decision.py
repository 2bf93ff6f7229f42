"""The decision, its messages, the significance test of the live metric, and the hysteresis of columns."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuous_training.monitoring import decision
from continuous_training.monitoring.decision import LIVE_METRIC, Decision
from continuous_training.monitoring.drift import PREDICTIONS, ColumnDrift
from continuous_training.monitoring.performance import MetricEstimate, measure_drop
from continuous_training.monitoring.state import MonitorState
from continuous_training.registry.model_versions import Version
from continuous_training.settings import Monitor

LIMITS = Monitor(columns_share=0.5)
FALSE_ALARMS = LIMITS.false_alarms
ratios = st.floats(0, 5)
weeks = st.lists(st.floats(0.5, 0.9), min_size=2, max_size=8)


def make_drifts(*names: str) -> list[ColumnDrift]:
    return [
        ColumnDrift(name=name, test="wasserstein", distance=0.5, limit=0.2, null_share=0, reference_null_share=0)
        for name in (*names, PREDICTIONS)
    ]


def estimate(value: float, width: float = 0.02) -> MetricEstimate:
    return MetricEstimate(
        metric="roc_auc", value=value, low=value - width, high=value + width, confidence=0.95, rows=4000
    )


def decide(*drifted: str, current: float = 0.66, invalid_columns: int = 0, columns: str = "abcdefgh") -> Decision:
    before, after = estimate(0.66), estimate(current)
    drop = measure_drop(before, after, LIMITS.false_alarms)
    return decision.decide(
        make_drifts(*columns), before, after, drop, drifted={*drifted}, invalid_columns=invalid_columns, limits=LIMITS
    )


def weekly_estimate(windows: list[float], width: float = 0.0) -> MetricEstimate:
    """Return an estimate with a score for each week; `width` is half the width of its interval."""
    return estimate(float(np.mean(windows)), width).model_copy(update={"windows": windows})


def detection_rate(current_weeks: int, drops: list[float]) -> float:
    """Simulate four weeks and the current weeks; return the share of simulations in which a drop is reported.

    Args:
        current_weeks: the number of current weeks.
        drops: how much lower the score of each current week is, in standard deviations of a week.
    """
    random, times = np.random.default_rng(0), 2000
    scores = random.normal(size=(times, 4 + current_weeks)) - np.array([0.0] * 4 + drops)
    return (
        sum(
            measure_drop(weekly_estimate([*row[:4]]), weekly_estimate([*row[4:]]), FALSE_ALARMS).ratio >= 1
            for row in scores
        )
        / times
    )


class TestDecision:
    @pytest.mark.parametrize(
        ("drifted", "verdict"),
        [
            ((), "none"),
            (("a",), "warn"),
            ((PREDICTIONS,), "warn"),
            (("a", PREDICTIONS), "retrain"),
            (("a", "b", "c", "d"), "retrain"),
            ((LIVE_METRIC,), "retrain"),
        ],
    )
    def test_many_columns_or_one_with_the_predictions_or_the_metric_require_a_training(
        self, drifted: tuple[str, ...], verdict: str
    ) -> None:
        assert decide(*drifted).verdict == verdict

    def test_quality_problems_are_a_warning_and_no_reason_to_train(self) -> None:
        result = decide(invalid_columns=5)
        assert (result.verdict, result.cause) == ("warn", "")
        assert "5 columns failed the quality checks" in result.message

    def test_the_message_has_the_numbers(self) -> None:
        assert decide("a", "b", LIVE_METRIC, current=0.58).message == (
            "a and b drifted (2 of 8 columns); "
            "the live roc_auc dropped from 0.6600 to 0.5800 (95% interval 0.5600 to 0.6000, from 4,000 labels)"
        )

    @pytest.mark.parametrize(
        ("windows", "text"),
        [
            ([0.58, 0.60, 0.56, 0.59], "dropped from 0.6600 to 0.5825 over 28 days (95% interval 0.5825 to 0.5825"),
            (
                [0.66, 0.65, 0.67, 0.45],
                "dropped from 0.6600 to 0.4500 in the last 7 days (it was 0.6075 over 28 days: 95% interval 0.6075 to",
            ),
        ],
    )
    def test_the_message_distinguishes_lasting_and_sudden_drops(self, windows: list[float], text: str) -> None:
        baseline, current = weekly_estimate([0.63, 0.70, 0.66, 0.65]), weekly_estimate(windows)
        drop = measure_drop(baseline, current, FALSE_ALARMS)
        result = decision.decide([], baseline, current, drop, drifted={LIVE_METRIC}, invalid_columns=0, limits=LIMITS)
        assert text in result.message

    @given(st.sets(st.sampled_from("abcdefgh"), min_size=1), st.floats(0.5, 0.6))
    def test_the_cause_has_no_numbers_and_does_not_depend_on_the_measured_values(
        self, drifted: set[str], current: float
    ) -> None:
        result = decide(*drifted, LIVE_METRIC, current=current)
        assert not re.search(r"\d", result.cause)
        assert result.cause == decide(*drifted, LIVE_METRIC, current=0.51).cause

    def test_the_cause_names_at_most_five_columns(self) -> None:
        assert decide(*"hgfedcba").cause == "a, b, c, d, e and others drifted"


class TestMetric:
    @pytest.mark.parametrize(("current", "significant"), [(0.66, False), (0.70, False), (0.64, False), (0.58, True)])
    def test_without_windows_a_drop_is_significant_if_the_interval_of_the_difference_is_below_zero(
        self, current: float, significant: bool
    ) -> None:
        assert (measure_drop(estimate(0.66), estimate(current), FALSE_ALARMS).ratio >= 1) == significant

    @pytest.mark.parametrize(("current", "significant"), [(0.59, False), (0.57, True)])
    def test_a_drop_within_the_variation_between_weeks_is_not_significant(
        self, current: float, significant: bool
    ) -> None:
        drop = measure_drop(weekly_estimate([0.63, 0.70, 0.66, 0.65]), weekly_estimate([current]), FALSE_ALARMS)
        assert (drop.ratio >= 1, drop.windows) == (significant, 1)

    def test_a_lasting_drop_is_significant_where_a_single_week_is_not(self) -> None:
        baseline, lower = weekly_estimate([0.63, 0.70, 0.66, 0.65]), [0.60, 0.59, 0.61, 0.60]
        assert [measure_drop(baseline, weekly_estimate([week]), FALSE_ALARMS).ratio >= 1 for week in lower] == [
            False
        ] * 4
        drop = measure_drop(baseline, weekly_estimate(lower), FALSE_ALARMS)
        assert (drop.ratio >= 1, drop.windows) == (True, 4)

    def test_a_sudden_drop_is_significant_in_the_newest_week_alone(self) -> None:
        drop = measure_drop(
            weekly_estimate([0.63, 0.70, 0.66, 0.65]), weekly_estimate([0.66, 0.64, 0.67, 0.45]), FALSE_ALARMS
        )
        assert (drop.ratio >= 1, drop.windows) == (True, 1)

    @given(weeks, weeks)
    def test_a_drop_within_the_sampling_noise_is_not_significant_over_all_weeks(
        self, baseline: list[float], current: list[float]
    ) -> None:
        drop = measure_drop(weekly_estimate(baseline, width=0.9), weekly_estimate(current, width=0.9), FALSE_ALARMS)
        assert drop.ratio < 1 or drop.windows == 1 < len(current)

    @given(weeks, weeks, st.floats(0.01, 0.2))
    def test_a_significant_drop_stays_significant_if_all_current_windows_are_lower(
        self, baseline: list[float], current: list[float], lower: float
    ) -> None:
        before, after = (
            measure_drop(weekly_estimate(baseline), weekly_estimate([week - change for week in current]), FALSE_ALARMS)
            for change in (0, lower)
        )
        assert after.ratio >= 1 or before.ratio < 1

    @pytest.mark.parametrize("current_weeks", [1, 2, 4])
    def test_the_false_alarm_rate_between_equal_weeks_is_as_configured(self, current_weeks: int) -> None:
        assert 0.5 * FALSE_ALARMS < detection_rate(current_weeks, [0.0] * current_weeks) < 1.1 * FALSE_ALARMS

    def test_a_lasting_drop_is_detected_more_often_than_a_single_week_of_it(self) -> None:
        assert detection_rate(4, [2.0] * 4) > 0.7
        assert detection_rate(1, [2.0]) < 0.5

    def test_a_sudden_drop_in_the_newest_week_is_detected(self) -> None:
        assert detection_rate(4, [0, 0, 0, 9.0]) > 0.7

    def test_without_a_comparable_baseline_there_is_no_drop(self) -> None:
        other = estimate(0.4).model_copy(update={"metric": "accuracy"})
        assert [measure_drop(baseline, other, FALSE_ALARMS).ratio for baseline in (None, estimate(0.66))] == [0, 0]


class TestState:
    @given(st.lists(st.floats(0.81, 0.99), max_size=20))
    def test_a_column_just_below_its_limit_keeps_its_state(self, values: list[float]) -> None:
        low, high = MonitorState(), MonitorState().update({"a": 1.2}, LIMITS)
        for ratio in values:
            low, high = low.update({"a": ratio}, LIMITS), high.update({"a": ratio}, LIMITS)
        assert (low.drifted(LIMITS), high.drifted(LIMITS)) == (set(), {"a"})

    def test_a_column_far_below_its_limit_counts_as_not_drifted_again(self) -> None:
        assert MonitorState().update({"a": 1.2}, LIMITS).update({"a": 0.79}, LIMITS).drifted(LIMITS) == set()

    @given(st.lists(ratios, max_size=20), st.integers(2, 4))
    def test_drift_needs_the_configured_number_of_consecutive_checks(self, values: list[float], needed: int) -> None:
        limits, state = Monitor(confirmations=needed), MonitorState()
        for index, ratio in enumerate(values):
            state = state.update({"a": ratio}, limits)
            if "a" in state.drifted(limits) and ratio >= 1 and values[index - 1] < limits.leave:
                pytest.fail("a single check was enough")
        assert ("a" in state.drifted(limits)) or not (
            len(values) >= needed and all(ratio >= 1 for ratio in values[-needed:])
        )

    def test_a_column_that_is_not_measured_keeps_its_state(self) -> None:
        assert MonitorState().update({"a": 1.2}, LIMITS).update({"b": 0.1}, LIMITS).drifted(LIMITS) == {"a"}

    def test_the_state_of_many_columns_fits_into_a_tag(self) -> None:
        written = {}

        class Client:
            def set_model_version_tag(self, name: str, number: str, key: str, value: str) -> None:
                written[name, number, key] = value

        state = MonitorState(message="x" * 500).update({f"column_{number:05}": 2.0 for number in range(1000)}, LIMITS)
        state.write(Client(), Version("toy", "1", "", {}))
        [(key, tag)] = written.items()
        assert len(tag) <= 5000
        assert len(MonitorState.of(Version("toy", "1", "", {key[2]: tag})).drifted(LIMITS)) > 100
