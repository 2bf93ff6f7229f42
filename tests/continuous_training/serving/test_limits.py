"""The limits of the section `serving`: which counters exceed them, and when a version is rejected."""

from __future__ import annotations

import numpy as np
import pytest

from continuous_training.serving.rollout.counters import Counters
from continuous_training.serving.rollout.limits import find_violation, summarize
from continuous_training.settings import Serving
from durations import count_durations

LIMITS = Serving(min_requests=50, max_error_share=0.01, max_milliseconds=500, min_agreement=0.8)


def test_a_version_within_all_limits_has_no_violation() -> None:
    counters = count_durations([0.01] * 100) + Counters(agreements=90, differences=10)
    assert find_violation(counters, LIMITS, final=True) is None


@pytest.mark.parametrize(
    ("counters", "message"),
    [
        (
            count_durations([0.01] * 60) + Counters(failures=20),
            "25% of 80 requests failed; serving.max_error_share is 1%",
        ),
        (
            count_durations([0.01] * 90 + [0.9] * 10),
            "1% of 100 requests took 950 ms or longer; serving.max_milliseconds is 500",
        ),
        (
            Counters(agreements=70, differences=30),
            "it agrees with the champion on 70% of 100 rows; serving.min_agreement is 80%",
        ),
    ],
    ids=["errors", "time", "agreement"],
)
def test_a_violation_is_reported_with_its_number(counters: Counters, message: str) -> None:
    assert find_violation(counters, LIMITS, final=True) == message


@pytest.mark.parametrize(
    "counters",
    [Counters(successes=9, failures=40), count_durations([9.0] * 49), Counters(agreements=9, differences=40)],
    ids=["errors", "time", "agreement"],
)
def test_too_few_requests_are_not_checked(counters: Counters) -> None:
    assert find_violation(counters, LIMITS, final=True) is None
    observation = summarize(counters, LIMITS)
    assert (observation.error_share, observation.milliseconds, observation.agreement) == (None, None, None)
    assert "too few" in observation.summary


def test_a_version_exactly_at_its_limits_has_no_violation() -> None:
    counters = count_durations([0.5] * 99) + Counters(failures=1, agreements=80, differences=20)
    assert find_violation(counters, LIMITS, final=True) is None


@pytest.mark.parametrize("limits", [{"max_error_share": 0}, {"max_error_share": 1}, {"min_agreement": 0}], ids=str)
def test_a_limit_may_be_zero_or_one(limits: dict[str, float]) -> None:
    serving = LIMITS.model_copy(update=limits)
    counters = Counters(successes=59, failures=1, differences=100 if "min_agreement" in limits else 0)
    is_rejected = limits.get("max_error_share") == 0 or "min_agreement" in limits
    assert (find_violation(counters, serving, final=True) is not None) == is_rejected


def test_a_clear_violation_is_reported_before_the_end() -> None:
    assert find_violation(Counters(successes=40, failures=10), LIMITS, final=False)
    assert find_violation(count_durations([0.9] * 50), LIMITS, final=False)


def test_one_failure_of_fifty_is_a_violation_at_the_end_only() -> None:
    counters = Counters(successes=49, failures=1)
    assert find_violation(counters, LIMITS, final=False) is None
    assert find_violation(counters, LIMITS, final=True)


@pytest.mark.parametrize(
    ("error_share", "expected"),
    [(0.005, range(11)), (0.02, range(190, 201))],
    ids=["half the limit", "twice the limit"],
)
def test_checks_every_second_reject_no_more_versions_than_one_check(error_share: float, expected: range) -> None:
    """Without the test of significance, nearly half of the versions at half the limit would be rejected."""
    random = np.random.default_rng(7)
    count = 0
    for _ in range(200):
        failures = random.binomial(20, error_share, size=60).cumsum().tolist()
        readings = [
            Counters(successes=20 * second - count, failures=count) for second, count in enumerate(failures, start=1)
        ]
        count += any(find_violation(reading, LIMITS, final=reading is readings[-1]) for reading in readings)
    assert count in expected


def test_an_observation_has_a_summary() -> None:
    counters = count_durations([0.01] * 99) + Counters(failures=1, agreements=1980, differences=20)
    expected = "100 requests, 1% failed, 99% within 9.98 ms; it agrees with the champion on 99% of 2,000 rows"
    assert summarize(counters, LIMITS).summary == expected
