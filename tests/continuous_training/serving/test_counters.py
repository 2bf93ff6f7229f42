"""The servers' counters: read from /metrics, subtracted and summed."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuous_training.errors import UserError
from continuous_training.serving.metrics import Metrics
from continuous_training.serving.rollout.counters import Counters, CountersByRole, read_counters, subtract
from durations import BOUNDS, count_durations
from http_stub import http_stub

seconds = st.lists(st.floats(min_value=1e-5, max_value=20), min_size=1, max_size=50)
shares = st.floats(min_value=0.01, max_value=1)
counts = st.integers(min_value=0, max_value=1000)
counters = st.builds(
    Counters,
    successes=counts,
    failures=counts,
    durations=st.fixed_dictionaries(dict.fromkeys(BOUNDS[:4], counts)),
    agreements=counts,
    differences=counts,
)
servers = st.fixed_dictionaries({("1", "champion"): counters, ("2", "canary"): counters})


def add(first: CountersByRole, second: CountersByRole) -> CountersByRole:
    return {key: first[key] + second[key] for key in first}


class TestRead:
    def test_a_version_has_counters_for_each_of_its_roles(self) -> None:
        metrics = Metrics()
        metrics.count_prediction("1", "champion", "ok", 0.0021)
        for _ in range(3):
            metrics.count_prediction("2", "canary", "ok", 0.012)
        metrics.count_prediction("2", "canary", "error", 20)
        metrics.count_comparison("2", agreements=7, differences=2)
        with http_stub(lambda _: (200, metrics.render().decode())) as url:
            by_role = read_counters(url)
        assert by_role["1", "champion"] == count_durations([0.0021])
        canary = by_role["2", "canary"]
        assert canary.durations == count_durations([0.012, 0.012, 0.012, 20]).durations
        assert (canary.successes, canary.failures, canary.agreements, canary.differences) == (3, 1, 7, 2)
        assert (canary.error_share, canary.agreement) == (1 / 4, 7 / 9)

    def test_a_request_that_was_rejected_because_the_queue_was_full_is_not_counted(self) -> None:
        metrics = Metrics()
        metrics.count_prediction("1", "champion", "busy", 0.0)
        with http_stub(lambda _: (200, metrics.render().decode())) as url:
            assert read_counters(url)["1", "champion"].requests == 0

    def test_a_server_without_requests_has_no_counters(self) -> None:
        with http_stub(lambda _: (200, Metrics().render().decode())) as url:
            assert read_counters(url) == {}

    @pytest.mark.parametrize(("text", "status"), [("<html>", 200), ("", 404), ("ÿþ{", 200)])
    def test_another_response_is_an_error_of_one_line(self, text: str, status: int) -> None:
        with (
            http_stub(lambda _: (status, text)) as url,
            pytest.raises(UserError, match=f"^cannot read {url}/metrics: .+$"),
        ):
            read_counters(url)

    def test_a_server_that_does_not_respond_is_an_error(self) -> None:
        with http_stub(lambda _: (200, "")) as url:
            pass
        with pytest.raises(UserError, match=f"cannot read {url}/metrics"):
            read_counters(url)


class TestPercentile:
    @pytest.mark.parametrize(
        ("share", "expected"), [(0, 0), (0.2, 0.048), (0.5, 0.15), (0.8, 0.72), (1, 1)], ids=lambda value: str(value)
    )
    def test_it_agrees_with_an_example_of_prometheus(self, share: float, expected: float) -> None:
        """The numbers are those of `testhistogram` in its promql/promqltest/testdata/histograms.test."""
        example = Counters(durations={0.1: 50, 0.2: 20, 1.0: 40, math.inf: 10})
        assert example.percentile(share) == pytest.approx(1000 * expected)

    @given(durations=seconds, share=shares)
    def test_it_is_in_the_bucket_of_the_request_at_its_rank(self, durations: list[float], share: float) -> None:
        exact = sorted(durations)[math.ceil(round(share * len(durations), 9)) - 1]
        lower, upper = next((low, high) for low, high in pairwise([0.0, *BOUNDS]) if exact <= high)
        upper = lower if math.isinf(upper) else upper
        assert 1000 * lower - 1e-6 <= count_durations(durations).percentile(share) <= 1000 * upper + 1e-6

    @given(durations=seconds, first=shares, second=shares)
    def test_it_does_not_decrease_with_the_share(self, durations: list[float], first: float, second: float) -> None:
        counters = count_durations(durations)
        assert counters.percentile(min(first, second)) <= counters.percentile(max(first, second)) + 1e-9

    @given(first=seconds, second=seconds, share=shares)
    def test_for_two_servers_it_is_that_of_all_their_requests(
        self, first: list[float], second: list[float], share: float
    ) -> None:
        total = count_durations(first) + count_durations(second)
        assert total.percentile(share) == count_durations(first + second).percentile(share)

    @given(durations=seconds, limit=st.sampled_from([1.0, 10.0, 300.0, 500.0, 10_000.0]))
    def test_no_faster_request_counts_as_slower(self, durations: list[float], limit: float) -> None:
        slower = sum(1000 * duration > limit for duration in durations)
        assert count_durations(durations).count_slower(limit) <= slower

    def test_without_requests_it_is_zero(self) -> None:
        assert Counters().percentile(0.99) == 0


class TestSubtract:
    @given(before=servers, increase=servers)
    def test_the_difference_of_two_readings_is_the_increase(
        self, before: CountersByRole, increase: CountersByRole
    ) -> None:
        assert subtract(add(before, increase), before) == increase

    @given(before=servers, after=servers)
    def test_after_a_restart_all_counts_are_the_increase(self, before: CountersByRole, after: CountersByRole) -> None:
        """If any count has decreased, the server was restarted; otherwise a restart is not visible."""
        increase = subtract(after, before)
        is_restart = any((after[key] - before[key]).negative for key in before)
        assert increase == (after if is_restart else {key: after[key] - before[key] for key in after})
        assert not any(counters.negative for counters in increase.values())

    @given(before=servers)
    def test_a_server_without_requests_since_its_restart_has_no_increase(self, before: CountersByRole) -> None:
        assert all(counters.requests == counters.rows == 0 for counters in subtract({}, before).values())

    @given(after=servers)
    def test_new_counters_begin_at_zero(self, after: CountersByRole) -> None:
        assert subtract(after, {}) == after
