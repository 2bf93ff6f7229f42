"""What follows from what was measured: words that say the same of the same cause, and columns that do not flutter."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuous_training.monitoring import decision
from continuous_training.monitoring.decision import METRIC, Decision
from continuous_training.monitoring.drift import PREDICTIONS
from continuous_training.monitoring.finding import Drift
from continuous_training.monitoring.performance import Measured, fall
from continuous_training.monitoring.state import State
from continuous_training.registry.model_versions import Version
from continuous_training.settings import Monitor

LIMITS = Monitor(columns_share=0.5)
ALARMS = LIMITS.false_alarms
ratios = st.floats(0, 5)
weeks = st.lists(st.floats(0.5, 0.9), min_size=2, max_size=8)


def drifts(*names: str) -> list[Drift]:
    return [
        Drift(name=name, test="wasserstein", distance=0.5, limit=0.2, null_share=0, learnt_null_share=0)
        for name in (*names, PREDICTIONS)
    ]


def measured(value: float, width: float = 0.02) -> Measured:
    return Measured(metric="roc_auc", value=value, low=value - width, high=value + width, confidence=0.95, rows=4000)


def decide(*moved: str, then: float = 0.66, now: float = 0.66, odd: int = 0, columns: str = "abcdefgh") -> Decision:
    before, after = measured(then), measured(now)
    fell = fall(before, after, LIMITS.false_alarms)
    return decision.decide(drifts(*columns), before, after, fell, moved={*moved}, odd=odd, limits=LIMITS)


def of_weeks(windows: list[float], width: float = 0.0) -> Measured:
    """Give a metric of some weeks, of which chance alone makes so much."""
    return measured(float(np.mean(windows)), width).model_copy(update={"windows": windows})


def share_found(live: int, falls: list[float]) -> float:
    """Simulate equal weeks, four of them and so many live ones, and return the share in which a fall is found.

    Args:
        live: the live weeks.
        falls: how far each is made to fall, in standard deviations of a week.
    """
    random, times = np.random.default_rng(0), 2000
    drawn = random.normal(size=(times, 4 + live)) - np.array([0.0] * 4 + falls)
    return sum(fall(of_weeks([*row[:4]]), of_weeks([*row[4:]]), ALARMS).ratio >= 1 for row in drawn) / times


class TestDecision:
    @pytest.mark.parametrize(
        ("moved", "verdict"),
        [
            ((), "none"),
            (("a",), "warn"),
            ((PREDICTIONS,), "warn"),
            (("a", PREDICTIONS), "retrain"),
            (("a", "b", "c", "d"), "retrain"),
            ((METRIC,), "retrain"),
        ],
    )
    def test_a_training_follows_from_many_columns_or_one_with_the_predictions_or_the_metric(
        self, moved: tuple[str, ...], verdict: str
    ) -> None:
        assert decide(*moved).verdict == verdict

    def test_data_that_cannot_be_trusted_are_a_warning_and_no_reason_to_train(self) -> None:
        found = decide(odd=5)
        assert (found.verdict, found.cause) == ("warn", "")
        assert "5 columns cannot be trusted" in found.message

    def test_it_is_explained_in_words_with_the_numbers(self) -> None:
        assert decide("a", "b", METRIC, now=0.58).message == (
            "a and b moved (2 of 8 columns); "
            "the live roc_auc fell from 0.6600 to 0.5800 (95% interval 0.5600 to 0.6000, from 4,000 labels)"
        )

    @pytest.mark.parametrize(
        ("windows", "words"),
        [
            ([0.58, 0.60, 0.56, 0.59], "fell from 0.6600 to 0.5825 over 28 days (95% interval 0.5825 to 0.5825"),
            (
                [0.66, 0.65, 0.67, 0.45],
                "fell from 0.6600 to 0.4500 in the last 7 days (it was 0.6075 over 28 days: 95% interval 0.6075 to",
            ),
        ],
    )
    def test_it_says_whether_the_metric_fell_for_long_or_lately(self, windows: list[float], words: str) -> None:
        then, now = of_weeks([0.63, 0.70, 0.66, 0.65]), of_weeks(windows)
        found = fall(then, now, ALARMS)
        assert words in decision.decide([], then, now, found, moved={METRIC}, odd=0, limits=LIMITS).message

    @given(st.sets(st.sampled_from("abcdefgh"), min_size=1), st.floats(0.5, 0.6))
    def test_the_cause_has_no_numbers_in_it_and_is_the_same_whatever_was_measured(
        self, moved: set[str], now: float
    ) -> None:
        found = decide(*moved, METRIC, now=now)
        assert not re.search(r"\d", found.cause)
        assert found.cause == decide(*moved, METRIC, now=0.51).cause

    def test_of_many_columns_some_are_named(self) -> None:
        assert decide(*"hgfedcba").cause == "a, b, c, d, e and others moved"


class TestMetric:
    @pytest.mark.parametrize(("now", "surely"), [(0.66, False), (0.70, False), (0.64, False), (0.58, True)])
    def test_without_windows_it_fell_if_the_interval_of_the_difference_is_below_zero(
        self, now: float, surely: bool
    ) -> None:
        assert (fall(measured(0.66), measured(now), ALARMS).ratio >= 1) == surely

    @pytest.mark.parametrize(("now", "surely"), [(0.59, False), (0.57, True)])
    def test_a_week_that_is_no_worse_than_weeks_differ_anyway_has_not_fallen(self, now: float, surely: bool) -> None:
        found = fall(of_weeks([0.63, 0.70, 0.66, 0.65]), of_weeks([now]), ALARMS)
        assert (found.ratio >= 1, found.windows) == (surely, 1)

    def test_a_fall_that_one_week_does_not_show_is_found_when_it_lasts(self) -> None:
        then, lower = of_weeks([0.63, 0.70, 0.66, 0.65]), [0.60, 0.59, 0.61, 0.60]
        assert [fall(then, of_weeks([week]), ALARMS).ratio >= 1 for week in lower] == [False] * 4
        found = fall(then, of_weeks(lower), ALARMS)
        assert (found.ratio >= 1, found.windows) == (True, 4)

    def test_a_collapse_is_found_in_the_newest_week_alone(self) -> None:
        found = fall(of_weeks([0.63, 0.70, 0.66, 0.65]), of_weeks([0.66, 0.64, 0.67, 0.45]), ALARMS)
        assert (found.ratio >= 1, found.windows) == (True, 1)

    @given(weeks, weeks)
    def test_what_has_not_fallen_more_than_chance_takes_has_not_fallen_over_all_weeks(
        self, then: list[float], now: list[float]
    ) -> None:
        found = fall(of_weeks(then, width=0.9), of_weeks(now, width=0.9), ALARMS)
        assert found.ratio < 1 or found.windows == 1 < len(now)

    @given(weeks, weeks, st.floats(0.01, 0.2))
    def test_what_has_fallen_has_fallen_too_where_all_live_windows_are_lower(
        self, then: list[float], now: list[float], lower: float
    ) -> None:
        before, after = (fall(of_weeks(then), of_weeks([week - by for week in now]), ALARMS) for by in (0, lower))
        assert after.ratio >= 1 or before.ratio < 1

    @pytest.mark.parametrize("live", [1, 2, 4])
    def test_of_weeks_that_are_alike_as_many_have_fallen_as_there_may_be_false_alarms(self, live: int) -> None:
        assert 0.5 * ALARMS < share_found(live, [0.0] * live) < 1.1 * ALARMS

    def test_a_lasting_fall_is_found_more_often_than_one_week_of_it(self) -> None:
        assert share_found(4, [2.0] * 4) > 0.7
        assert share_found(1, [2.0]) < 0.5

    def test_a_collapse_in_the_newest_week_is_found(self) -> None:
        assert share_found(4, [0, 0, 0, 9.0]) > 0.7

    def test_what_cannot_be_compared_has_not_fallen(self) -> None:
        other = measured(0.4).model_copy(update={"metric": "accuracy"})
        assert [fall(then, other, ALARMS).ratio for then in (None, measured(0.66))] == [0, 0]


class TestState:
    @given(st.lists(st.floats(0.81, 0.99), max_size=20))
    def test_a_column_that_hovers_below_its_limit_stays_where_it_was(self, seen: list[float]) -> None:
        calm, high = State(), State().after({"a": 1.2}, LIMITS)
        for ratio in seen:
            calm, high = calm.after({"a": ratio}, LIMITS), high.after({"a": ratio}, LIMITS)
        assert (calm.moved(LIMITS), high.moved(LIMITS)) == (set(), {"a"})

    def test_it_is_back_when_it_is_well_within_its_limit(self) -> None:
        assert State().after({"a": 1.2}, LIMITS).after({"a": 0.79}, LIMITS).moved(LIMITS) == set()

    @given(st.lists(ratios, max_size=20), st.integers(2, 4))
    def test_it_takes_as_many_checks_in_a_row_as_must_confirm_it(self, seen: list[float], needed: int) -> None:
        limits, found = Monitor(confirmations=needed), State()
        for place, ratio in enumerate(seen):
            found = found.after({"a": ratio}, limits)
            if "a" in found.moved(limits) and ratio >= 1 and seen[place - 1] < limits.leave:
                pytest.fail("one look was enough")
        assert ("a" in found.moved(limits)) or not (len(seen) >= needed and all(one >= 1 for one in seen[-needed:]))

    def test_what_was_not_measured_stays_as_it_was(self) -> None:
        assert State().after({"a": 1.2}, LIMITS).after({"b": 0.1}, LIMITS).moved(LIMITS) == {"a"}

    def test_a_tag_holds_it_however_many_columns_there_are(self) -> None:
        written = {}

        class Client:
            def set_model_version_tag(self, name: str, number: str, key: str, value: str) -> None:
                written[name, number, key] = value

        many = State(message="x" * 500).after({f"column_{number:05}": 2.0 for number in range(1000)}, LIMITS)
        many.write(Client(), Version("toy", "1", "", {}))
        [(place, tag)] = written.items()
        assert len(tag) <= 5000
        assert len(State.of(Version("toy", "1", "", {place[2]: tag})).moved(LIMITS)) > 100
