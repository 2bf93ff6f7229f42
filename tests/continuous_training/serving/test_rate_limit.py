"""The rate limit: token buckets that all workers share."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import TIMEOUT
from continuous_training.errors import UserError
from continuous_training.serving.http.rate_limit import ALL_CLIENTS, RateLimit
from manual_clock import ManualClock

SLOW = 1e-6  # requests per second: no bucket is refilled during a test


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rate"


@contextmanager
def bucket(now: float, per_second: float, burst: float) -> Iterator[tuple[RateLimit, ManualClock]]:
    clock = ManualClock(now)
    with tempfile.TemporaryDirectory() as folder:
        yield RateLimit(Path(folder, "rate"), ["alice"], per_second, burst, clock=clock), clock


def check_every_interval(times: list[float], per_second: float, burst: float) -> None:
    """Check that no interval has more requests than the burst and the rate allow."""
    times = sorted(times)
    for first, start in enumerate(times):
        for count, end in enumerate(times[first:], start=1):
            assert count <= burst + per_second * (end - start + 2e-6)


rates = st.floats(0.01, 1000)
bursts = st.floats(1, 20)
uptimes = st.floats(0, 1e6)

TAKE = """
import json, sys, time
from pathlib import Path
from continuous_training.serving.http.rate_limit import RateLimit

def clock():
    global now
    now = time.monotonic()
    return now

limit = RateLimit(Path(sys.argv[1]), ["alice", "bob"], 100, 20, clock=clock)
print("ready", flush=True)
sys.stdin.readline()
times = []
while len(times) < 10:  # more than a bucket holds for all workers together
    if limit.take("alice") == 0:
        times.append(now)
print(json.dumps(times))
"""

HANG = """
import sys, time
from pathlib import Path
from continuous_training.serving.http.rate_limit import RateLimit

def hang():
    print("locked", flush=True)
    time.sleep(600)

RateLimit(Path(sys.argv[1]), ["alice"], float(sys.argv[2]), 2, clock=hang).take("alice")
"""


def worker(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class TestRateLimit:
    @given(
        now=uptimes,
        per_second=rates,
        burst=bursts,
        arrivals=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 8)), max_size=20),
    )
    def test_in_no_interval_more_requests_than_the_burst_and_the_rate_allow(
        self, now: float, per_second: float, burst: float, arrivals: list[tuple[float, int]]
    ) -> None:
        times = []
        with bucket(now, per_second, burst) as (limit, clock):
            for pause, count in arrivals:
                clock.now += pause / per_second
                times += [clock.now for _ in range(count) if limit.take("alice") == 0]
        check_every_interval(times, per_second, burst)

    @given(now=uptimes, per_second=rates, burst=bursts, pauses=st.lists(st.floats(1.001, 5), max_size=30))
    def test_a_client_below_the_rate_is_never_rejected(
        self, now: float, per_second: float, burst: float, pauses: list[float]
    ) -> None:
        with bucket(now, per_second, burst) as (limit, clock):
            for pause in pauses:
                assert limit.take("alice") == 0
                clock.now += pause / per_second

    @given(now=uptimes, per_second=rates, burst=st.integers(1, 20))
    def test_a_request_after_the_reported_time_is_accepted(self, now: float, per_second: float, burst: int) -> None:
        with bucket(now, per_second, burst) as (limit, clock):
            accepted_count = sum(limit.take("alice") == 0 for _ in range(burst + 2))
            seconds = limit.take("alice")
            clock.now += seconds * 0.99
            early = limit.take("alice")
            clock.now += seconds * 0.01 + 1e-6
            assert (accepted_count, early > 0, limit.take("alice")) == (burst, True, 0)

    def test_each_client_has_its_own_bucket(self, path: Path) -> None:
        limit = RateLimit(path, ["alice", "bob"], SLOW, 2)
        assert [limit.take("alice") == 0 for _ in range(3)] == [True, True, False]
        assert [limit.take("bob") == 0 for _ in range(3)] == [True, True, False]

    def test_without_clients_there_is_one_bucket(self, path: Path) -> None:
        limit = RateLimit(path, (), SLOW, 1)
        assert [limit.take(ALL_CLIENTS) == 0 for _ in range(2)] == [True, False]

    def test_four_workers_together_accept_no_more_than_one(self, path: Path) -> None:
        workers = [worker(TAKE, path) for _ in range(4)]
        for process in workers:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        with ThreadPoolExecutor(len(workers)) as threads:
            outputs = list(threads.map(lambda process: process.communicate("go\n", timeout=TIMEOUT)[0], workers))
        times = [time for output in outputs for time in json.loads(output)]
        assert len(times) == 40
        check_every_interval(times, 100, 20)
        assert RateLimit(path, ["alice", "bob"], 100, 20).take("bob") == 0

    def test_workers_that_start_together_share_one_file(self, path: Path) -> None:
        with ThreadPoolExecutor(8) as workers:
            for number in range(20):  # a race is rare
                file = path / str(number)
                limits = list(workers.map(lambda _, file=file: RateLimit(file, ["alice"], SLOW, 3), range(8)))
                assert sum(limit.take("alice") == 0 for limit in limits) == 3
        assert len(list(path.iterdir())) == 20

    def test_threads_of_a_worker_exclude_each_other(self, path: Path) -> None:
        limit = RateLimit(path, ["alice"], SLOW, 500, clock=lambda: time.sleep(0) or 100.0)  # another thread's turn
        with ThreadPoolExecutor(8) as threads:
            assert sum(seconds == 0 for seconds in threads.map(lambda _: limit.take("alice"), range(2000))) == 500

    def test_a_worker_that_is_killed_with_the_lock_releases_it_and_the_bucket_stays_valid(self, path: Path) -> None:
        limit = RateLimit(path, ["alice"], SLOW, 2)
        assert limit.take("alice") == 0
        with worker(HANG, path, SLOW) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            process.kill()
        assert [limit.take("alice") == 0 for _ in range(2)] == [True, False]

    def test_a_new_worker_uses_the_existing_buckets(self, path: Path) -> None:
        RateLimit(path, ["alice"], SLOW, 1).take("alice")
        assert RateLimit(path, ["alice"], SLOW, 1).take("alice") > 0

    @pytest.mark.parametrize("others", [["bob"], ["bob", "alice"]])
    def test_a_file_of_other_clients_is_replaced_and_stays_valid_for_its_server(
        self, path: Path, others: list[str]
    ) -> None:
        current = RateLimit(path, ["alice"], SLOW, 1)
        current.take("alice")
        assert RateLimit(path, others, SLOW, 1).take(others[-1]) == 0
        assert current.take("alice") > 0

    @pytest.mark.parametrize("content", [b"", b"invalid", bytes(72), b"\xff" * 200])
    def test_an_invalid_file_is_replaced(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        limit = RateLimit(path, ["alice"], SLOW, 1)
        assert [limit.take("alice") == 0 for _ in range(2)] == [True, False]

    def test_after_a_restart_of_the_machine_the_buckets_are_full(self, path: Path) -> None:
        RateLimit(path, ["alice"], 1, 1, clock=ManualClock(1e6)).take("alice")
        assert RateLimit(path, ["alice"], 1, 1, clock=ManualClock(5)).take("alice") == 0

    def test_a_higher_rate_applies_after_a_restart(self, path: Path) -> None:
        clock = ManualClock(100)
        RateLimit(path, ["alice"], SLOW, 1, clock=clock).take("alice")
        assert RateLimit(path, ["alice"], 10, 1, clock=clock).take("alice") == 0

    @pytest.mark.parametrize(
        ("per_second", "burst"),
        [(0, 1), (-1, 1), (1, 0.5), (1, 0), (float("nan"), 1), (float("inf"), 1), (1, float("nan"))],
    )
    def test_a_limit_that_rejects_every_request_is_an_error(self, path: Path, per_second: float, burst: float) -> None:
        with pytest.raises(UserError, match="the rate must be above 0, and the burst at least 1"):
            RateLimit(path, ["alice"], per_second, burst)

    def test_a_path_that_cannot_be_written_is_an_error(self, path: Path) -> None:
        path.mkdir()
        with pytest.raises(UserError, match=f"the rate limit needs the writable file {path}: Is a directory"):
            RateLimit(path, ["alice"], 1, 1)
