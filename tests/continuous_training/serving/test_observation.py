"""The servers' own numbers: read, subtracted, added up, and held against the limits of training.yaml."""

from __future__ import annotations

import http.server
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuous_training.errors import UserError
from continuous_training.serving.metrics import SECONDS, Metrics
from continuous_training.serving.rollout import observation
from continuous_training.serving.rollout.observation import Look, Numbers
from continuous_training.settings import Serving

BOUNDS = (*SECONDS, math.inf)
LIMITS = Serving(min_requests=50, max_error_share=0.01, max_milliseconds=500, min_agreement=0.8)

seconds = st.lists(st.floats(min_value=1e-5, max_value=20), min_size=1, max_size=50)
shares = st.floats(min_value=0.01, max_value=1)
counts = st.integers(min_value=0, max_value=1000)
numbers = st.builds(
    Numbers,
    answered=counts,
    failed=counts,
    times=st.fixed_dictionaries(dict.fromkeys(BOUNDS, counts)),
    agreed=counts,
    differed=counts,
)
looks = st.fixed_dictionaries({("1", "champion"): numbers, ("2", "canary"): numbers})


def timed(taken: list[float]) -> Numbers:
    """Count requests by the bucket that each falls into."""
    times = dict.fromkeys(BOUNDS, 0)
    for one in taken:
        times[next(bound for bound in BOUNDS if one <= bound)] += 1
    return Numbers(answered=len(taken), times=times)


def together(one: Look, other: Look) -> Look:
    return {key: one[key] + other[key] for key in one}


@contextmanager
def told(text: bytes, status: int = 200) -> Iterator[str]:
    """Answer every request with a text; yields the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class TestRead:
    def test_a_version_has_its_numbers_in_each_of_its_roles(self) -> None:
        metrics = Metrics()
        metrics.answered("1", "champion", "ok", 0.0021)
        for _ in range(3):
            metrics.answered("2", "canary", "ok", 0.012)
        metrics.answered("2", "canary", "error", 20)
        metrics.compared("2", agreed=7, differed=2)
        with told(metrics.text()) as url:
            look = observation.read(url)
        assert look["1", "champion"] == timed([0.0021])
        canary = look["2", "canary"]
        assert canary.times == timed([0.012, 0.012, 0.012, 20]).times
        assert (canary.answered, canary.failed, canary.agreed, canary.differed) == (3, 1, 7, 2)
        assert (canary.error_share, canary.agreement) == (1 / 4, 7 / 9)

    def test_a_request_that_was_sent_away_because_too_many_wait_neither_failed_nor_was_answered(self) -> None:
        metrics = Metrics()
        metrics.answered("1", "champion", "busy", 0.0)
        with told(metrics.text()) as url:
            assert observation.read(url)["1", "champion"].requests == 0

    def test_a_server_that_was_asked_nothing_yet_has_none(self) -> None:
        with told(Metrics().text()) as url:
            assert observation.read(url) == {}

    @pytest.mark.parametrize(("text", "status"), [(b"<html>", 200), (b"", 404), (b"\xff\xfe{", 200)])
    def test_what_is_no_page_of_numbers_is_told_in_one_line(self, text: bytes, status: int) -> None:
        with told(text, status) as url, pytest.raises(UserError, match=f"^{url} does not tell its numbers: .+$"):
            observation.read(url)

    def test_a_server_that_is_gone_is_told(self) -> None:
        with told(b"") as url:
            pass
        with pytest.raises(UserError, match=f"{url} does not tell its numbers"):
            observation.read(url)


class TestPercentile:
    @pytest.mark.parametrize(
        ("share", "expected"), [(0, 0), (0.2, 0.048), (0.5, 0.15), (0.8, 0.72), (1, 1)], ids=lambda one: str(one)
    )
    def test_it_is_what_prometheus_makes_of_its_own_example(self, share: float, expected: float) -> None:
        """The numbers are those of `testhistogram` in its promql/promqltest/testdata/histograms.test."""
        found = Numbers(times={0.1: 50, 0.2: 20, 1.0: 40, math.inf: 10})
        assert found.percentile(share) == pytest.approx(1000 * expected)

    @given(taken=seconds, share=shares)
    def test_it_lies_in_the_bucket_of_the_request_that_it_is_about(self, taken: list[float], share: float) -> None:
        about = sorted(taken)[math.ceil(round(share * len(taken), 9)) - 1]
        lower, upper = next((low, high) for low, high in pairwise([0.0, *BOUNDS]) if about <= high)
        upper = lower if math.isinf(upper) else upper
        assert 1000 * lower - 1e-6 <= timed(taken).percentile(share) <= 1000 * upper + 1e-6

    @given(taken=seconds, one=shares, other=shares)
    def test_a_larger_share_takes_no_less(self, taken: list[float], one: float, other: float) -> None:
        found = timed(taken)
        assert found.percentile(min(one, other)) <= found.percentile(max(one, other)) + 1e-9

    @given(one=seconds, other=seconds, share=shares)
    def test_of_two_servers_it_is_that_of_all_their_requests(
        self, one: list[float], other: list[float], share: float
    ) -> None:
        assert (timed(one) + timed(other)).percentile(share) == timed(one + other).percentile(share)

    @given(taken=seconds, limit=st.sampled_from([1.0, 10.0, 300.0, 500.0, 10_000.0]))
    def test_the_requests_that_surely_took_longer_did(self, taken: list[float], limit: float) -> None:
        assert timed(taken).slower(limit) <= sum(1000 * one > limit for one in taken)

    def test_without_requests_it_is_nothing(self) -> None:
        assert Numbers().percentile(0.99) == 0


class TestSince:
    @given(before=looks, done=looks)
    def test_what_was_done_between_two_looks_is_their_difference(self, before: Look, done: Look) -> None:
        assert observation.since(together(before, done), before) == done

    @given(before=looks, now=looks)
    def test_after_a_restart_all_that_there_is_was_done_since(self, before: Look, now: Look) -> None:
        """A server that has lost any count has lost all; one that has lost none cannot be told from one that ran on."""
        found = observation.since(now, before)
        lost = any((now[key] - before[key]).fell for key in before)
        assert found == (now if lost else {key: now[key] - before[key] for key in now})
        assert not any(one.fell for one in found.values())

    @given(before=looks)
    def test_a_server_that_was_asked_nothing_since_its_restart_has_done_nothing(self, before: Look) -> None:
        assert all(one.requests == one.rows == 0 for one in observation.since({}, before).values())

    @given(done=looks)
    def test_what_is_new_has_begun_at_zero(self, done: Look) -> None:
        assert observation.since(done, {}) == done


class TestLimits:
    def test_a_version_within_all_of_them_breaks_none(self) -> None:
        found = timed([0.01] * 100) + Numbers(agreed=90, differed=10)
        assert observation.broken(found, LIMITS, over=True) is None

    @pytest.mark.parametrize(
        ("found", "message"),
        [
            (
                timed([0.01] * 60) + Numbers(failed=20),
                "25% of 80 requests failed, and serving.max_error_share is 1%",
            ),
            (
                timed([0.01] * 90 + [0.9] * 10),
                "1% of 100 requests took 950 ms or longer, and serving.max_milliseconds is 500",
            ),
            (
                Numbers(agreed=70, differed=30),
                "it agrees with the champion on 70% of 100 rows, and serving.min_agreement is 80%",
            ),
        ],
        ids=["errors", "time", "agreement"],
    )
    def test_what_is_broken_is_told_with_its_number(self, found: Numbers, message: str) -> None:
        assert observation.broken(found, LIMITS, over=True) == message

    @pytest.mark.parametrize(
        "found",
        [Numbers(answered=9, failed=40), timed([9.0] * 49), Numbers(agreed=9, differed=40)],
        ids=["errors", "time", "agreement"],
    )
    def test_too_few_are_not_judged(self, found: Numbers) -> None:
        assert observation.broken(found, LIMITS, over=True) is None
        kept = observation.kept(found, LIMITS)
        assert (kept.error_share, kept.milliseconds, kept.agreement) == (None, None, None)
        assert "too few to judge by" in kept.summary

    def test_what_exactly_keeps_them_breaks_none(self) -> None:
        found = timed([0.5] * 99) + Numbers(failed=1, agreed=80, differed=20)
        assert observation.broken(found, LIMITS, over=True) is None

    @pytest.mark.parametrize("limits", [{"max_error_share": 0}, {"max_error_share": 1}, {"min_agreement": 0}], ids=str)
    def test_the_ends_of_a_limit_are_limits_too(self, limits: dict[str, float]) -> None:
        strict = LIMITS.model_copy(update=limits)
        found = Numbers(answered=59, failed=1, differed=100 if "min_agreement" in limits else 0)
        refused = limits.get("max_error_share") == 0 or "min_agreement" in limits
        assert (observation.broken(found, strict, over=True) is not None) == refused

    def test_a_bad_one_need_not_be_watched_to_the_end(self) -> None:
        assert observation.broken(Numbers(answered=40, failed=10), LIMITS, over=False)
        assert observation.broken(timed([0.9] * 50), LIMITS, over=False)

    def test_before_the_end_one_failure_of_fifty_is_no_sign(self) -> None:
        found = Numbers(answered=49, failed=1)
        assert observation.broken(found, LIMITS, over=False) is None
        assert observation.broken(found, LIMITS, over=True)

    @pytest.mark.parametrize(
        ("fails", "refused"), [(0.005, range(11)), (0.02, range(190, 201))], ids=["half the limit", "twice the limit"]
    )
    def test_looking_every_second_refuses_no_more_than_looking_once(self, fails: float, refused: range) -> None:
        """The limit itself, asked at each look, refuses nearly half of those that fail half as often as they may."""
        random = np.random.default_rng(7)
        found = 0
        for _ in range(200):
            failed = random.binomial(20, fails, size=60).cumsum().tolist()
            watched = [Numbers(answered=20 * look - bad, failed=bad) for look, bad in enumerate(failed, start=1)]
            found += any(observation.broken(one, LIMITS, over=one is watched[-1]) for one in watched)
        assert found in refused


def test_what_was_seen_is_told_in_words() -> None:
    found = timed([0.01] * 99) + Numbers(failed=1, agreed=1980, differed=20)
    words = "100 requests, 1% failed, 99% within 9.98 ms; it agrees with the champion on 99% of 2,000 rows"
    assert observation.kept(found, LIMITS).summary == words
