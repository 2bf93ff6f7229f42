"""What follows from what was measured: words that say the same of the same cause, and columns that do not flutter."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuous_training.monitor import decision
from continuous_training.monitor.decision import METRIC, Decision
from continuous_training.monitor.drift import PREDICTIONS
from continuous_training.monitor.finding import Drift
from continuous_training.monitor.performance import Measured, change
from continuous_training.monitor.state import State
from continuous_training.registry import Version
from continuous_training.settings import Monitor

LIMITS = Monitor(columns_share=0.5)
ratios = st.floats(0, 5)


def drifts(*names: str) -> list[Drift]:
    return [
        Drift(name=name, test="wasserstein", distance=0.5, limit=0.2, null_share=0, learnt_null_share=0)
        for name in (*names, PREDICTIONS)
    ]


def measured(value: float, width: float = 0.02) -> Measured:
    return Measured(metric="roc_auc", value=value, low=value - width, high=value + width, confidence=0.95, rows=4000)


def decide(*moved: str, then: float = 0.66, now: float = 0.66, odd: int = 0, columns: str = "abcdefgh") -> Decision:
    return decision.decide(drifts(*columns), measured(then), measured(now), moved={*moved}, odd=odd, limits=LIMITS)


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
        assert "5 columns cannot be trusted" in found.said

    def test_it_is_explained_in_words_with_the_numbers(self) -> None:
        assert decide("a", "b", METRIC, now=0.58).said == (
            "a and b moved (2 of 8 columns); "
            "the live roc_auc fell from 0.6600 to 0.5800 (95% interval 0.5600 to 0.6000, from 4,000 labels)"
        )

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
    def test_it_fell_if_the_whole_interval_of_the_difference_is_below_zero(self, now: float, surely: bool) -> None:
        assert (decision.fell(measured(0.66), measured(now)) >= 1) == surely

    def test_a_week_that_is_no_worse_than_weeks_differ_anyway_has_not_fallen(self) -> None:
        surely = {0.58: True, 0.45: True}
        assert {now: decision.fell(measured(0.66), measured(now)) >= 1 for now in surely} == surely
        weeks = measured(0.66).model_copy(update={"windows": [0.63, 0.70, 0.66, 0.65]})
        surely = {0.58: False, 0.45: True}
        assert {now: decision.fell(weeks, measured(now)) >= 1 for now in surely} == surely

    @given(st.lists(st.floats(0.5, 0.9), min_size=2, max_size=50), st.floats(0.5, 0.9))
    def test_windows_never_make_an_interval_narrower(self, windows: list[float], now: float) -> None:
        alone, beside = measured(0.7), measured(0.7).model_copy(update={"windows": windows})
        narrow, wide = change(alone, measured(now)), change(beside, measured(now))
        assert wide[0] <= narrow[0] < narrow[1] <= wide[1]

    def test_what_cannot_be_compared_has_not_fallen(self) -> None:
        other = measured(0.4).model_copy(update={"metric": "accuracy"})
        assert [decision.fell(*pair) for pair in ((None, other), (other, None), (measured(0.66), other))] == [0, 0, 0]

    @given(st.floats(0.3, 0.9), st.floats(0.3, 0.9), st.floats(0.001, 0.1))
    def test_the_interval_of_a_change_is_around_it_and_wider_than_either_ones_own(
        self, then: float, now: float, width: float
    ) -> None:
        low, high = change(measured(then, width), measured(now, width))
        assert low < now - then < high
        assert high - low > 2 * width


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

        many = State(said="x" * 500).after({f"column_{number:05}": 2.0 for number in range(1000)}, LIMITS)
        many.write(Client(), Version("toy", "1", "", {}))
        [(place, tag)] = written.items()
        assert len(tag) <= 5000
        assert len(State.of(Version("toy", "1", "", {place[2]: tag})).moved(LIMITS)) > 100
