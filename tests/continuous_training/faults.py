"""The faults that a prediction server meets while it is asked: each is brought about, and told with what it costs.

Each function has a steady load on `ct serve` in the current workspace, with the toy model, and looks at what it answers
and at what it says of itself. The tests do this with few requests, the benchmark with many.

A server that is given to them they leave as it was, unless the fault is its end.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import requests

from cloud.tracking import Tracking
from conftest import wait_until
from continuous_training.errors import UserError
from continuous_training.registry import model_versions
from continuous_training.serving import local_server as daemon
from continuous_training.serving.supervisor import listen
from continuous_training.versions import golden_predictions, loading
from load import Counts, Load
from pipeline import Pipeline
from server import Processes
from toy import change, events

log = logging.getLogger(__name__)

ROWS = 300
CONNECTIONS = 32
WORKERS = 2
WAITING = 5  # requests, where too many come
LOOKS = 30  # at /health
DROPPED, LOGGED = ('ct_logged_rows_total{outcome="dropped"}', 'ct_logged_rows_total{outcome="logged"}')

SLOW = """

import time


class Slow(LogisticRegression):
    def __init__(self, seconds=0.0, C=1.0):
        super().__init__(C=C)
        self.seconds = seconds

    def predict_proba(self, X):
        time.sleep(self.seconds)
        return super().predict_proba(X)
"""


@dataclass(frozen=True)
class Found:
    """What became of the requests during a fault, and of the server."""

    fault: str
    counts: Counts
    became: str
    may_lose: int = 0  # requests
    surprises: list[str] = field(default_factory=list)  # what the server should have done or said, and did not

    @property
    def row(self) -> dict[str, object]:
        """Its line of the table."""
        became = "; but ".join([self.became, *self.surprises])
        counts = self.counts
        return {
            "server fault": self.fault,
            "answers": f"{counts.answers:,}",
            "failed": counts.failed,
            "wrong": counts.wrong,
            "became": became,
        }

    @property
    def wrongs(self) -> list[str]:
        """All that should not have been."""
        counts, found = self.counts, []
        if counts.wrong:
            found.append(f"{counts.wrong} answers were wrong")
        if counts.others:
            found.append(f"{counts.others.total()} requests got {dict(counts.others)}")
        if len(counts.lost) > self.may_lose:
            found.append(f"{len(counts.lost)} requests were lost, where {self.may_lose} may be")
        return [*self.surprises, *found, *(counts.examples if found else [])]


class Versions:
    """Versions of the toy model in the current workspace, and what each says offline of the rows that are asked for."""

    def __init__(self, patch: pytest.MonkeyPatch, *, pause: float = 0.0) -> None:
        """Make the workspace's toy model one that can be slow; a client lets so many seconds pass after an answer."""
        self._patch = patch
        self._pause = pause
        self._asked = events()[["shade", "x", "y"]].head(ROWS)
        cells = self._asked.astype(object).to_numpy().tolist()
        self.rows = {
            "columns": list(self._asked.columns),
            "data": [[None if pd.isna(cell) else cell for cell in row] for row in cells],
        }
        self.expected: dict[str, list[list[float]]] = {}
        self._good: list[str] = []
        self._slow: dict[float, str] = {}
        with Path("src/toy/model.py").open("a") as model:
            model.write(SLOW)
        change("LogisticRegression(**parameters))", "Slow(**parameters))", Path("src/toy/model.py"))
        change("trusted_types: [numpy.dtype]", "trusted_types: [numpy.dtype, toy.model.Slow]")
        self._parameters = "{C: 1.0}"

    def good(self, count: int) -> list[str]:
        """Return the numbers of so many versions, each of which answers otherwise than the others."""
        while len(self._good) < count:
            self._good.append(self._make())
        return self._good[:count]

    def slow(self, seconds: float) -> str:
        """Return the number of a version that takes so long for each call."""
        if seconds not in self._slow:
            self._slow[seconds] = self._make(seconds=seconds)
        return self._slow[seconds]

    def rotten(self) -> str:
        """Make a version that cannot be loaded."""
        number = self._make()
        stored = Path(".ct/artifacts").rglob("model.skops")
        max(stored, key=lambda path: path.stat().st_mtime_ns).write_bytes(b"rotten")
        return number

    def different(self) -> str:
        """Make a version that answers otherwise than it did offline."""
        number = self._make()
        run_id = self._client.get_model_version("toy", number).run_id
        (kept,) = Path(".ct/artifacts").rglob(f"{run_id}/artifacts/{golden_predictions.FILE}")
        told = json.loads(kept.read_text())
        told["predictions"][0][0] += 0.001
        kept.write_text(json.dumps(told))
        return number

    def promote(self, number: str) -> None:
        """Make a version champion, or champion again."""
        self._client.set_registered_model_alias("toy", model_versions.CHAMPION, number)

    def load(self, url: str) -> Load:
        """Make a load on a server, which holds each answer against what its version says offline."""
        return Load(url, self.rows, self.expected, connections=CONNECTIONS, pause=self._pause)

    def _make(self, **parameters: float) -> str:
        told = json.dumps({"C": 2.0 ** -len(self.expected), **parameters})
        change(f"parameters: {self._parameters}", f"parameters: {told}")
        self._parameters = told
        run = Pipeline(self._patch, MODEL="toy", AS_OF="2020-03-01")
        run.register(compare=False)
        self._client = run.client
        number = run.registration.model_version
        estimator = loading.load(f"models:/toy/{number}", run.settings.model.trusted_types)
        self.expected[number] = estimator.predict_proba(self._asked).tolist()
        return number


class Watched(Processes):
    """A server, and what it says of itself to whoever asks again when a worker takes the question with it."""

    def __init__(self, *arguments: str, workers: int = WORKERS, **environment: str) -> None:
        path = os.pathsep.join(filter(None, [str(Path("src").resolve()), os.environ.get("PYTHONPATH")]))
        folder = str(Path(".ct").resolve())  # where a killed supervisor leaves what its workers shared
        super().__init__("--workers", str(workers), *arguments, PYTHONPATH=path, TMPDIR=folder, **environment)
        self._count = workers

    def get(self, path: str) -> requests.Response:
        while True:
            try:
                return super().get(path)
            except requests.ConnectionError:
                if self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    @property
    def workers(self) -> list[dict[str, Any]]:
        return list(self.get("/version").json()["workers"])

    @property
    def pids(self) -> set[int]:
        return {worker["pid"] for worker in self.workers}

    def number(self, name: str) -> float:
        """Return a number of /metrics."""
        for line in self.get("/metrics").text.splitlines():
            found, _, value = line.rpartition(" ")
            if found == name:
                return float(value)
        return 0.0

    def says_why(self) -> str:
        """Wait until each worker has said that something keeps it from following; return what."""
        message: dict[int, str] = {}

        def each() -> bool:
            found = self.workers
            message.update({one["pid"]: one["failure"] for one in found if one["failure"]})
            return {one["pid"] for one in found} <= message.keys()

        wait_until(each, "each worker says why it does not follow")
        return next(iter(message.values()))

    def follows(self, number: str) -> None:
        """Wait until every worker answers with a version."""
        wait_until(lambda: self.get("/version").json()["model_version"] == number, f"all answer with version {number}")

    def is_well(self, number: str) -> bool:
        """Tell whether it lives, and every worker answers with a version, or soon does."""
        return self.process.poll() is None and comes(lambda: self.get("/version").json()["model_version"] == number)

    def kill_one(self) -> int:
        """Kill a worker with -9; return how many connections it had."""
        victim = min(self.pids)
        port = int(self.url.rpartition(":")[2])
        its = [one for one in psutil.Process(victim).net_connections("tcp") if one.laddr.port == port and one.raddr]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in self.pids and len(self.workers) == self._count, "the worker is replaced")
        return len(its)

    def has_ended(self, pids: set[int]) -> bool:
        """Tell whether these processes have ended, and nobody listens any more."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        try:
            listen(host, int(port), shared=False).close()
        except UserError:
            return False
        return not any(daemon.alive(pid) for pid in pids)


def comes(holds: Callable[[], object], seconds: float = 30) -> bool:
    """Wait for what may not come."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(holds())


def promotions(server: Watched, versions: Versions, count: int, *, promoted: int, rolled_back: int) -> Found:
    """Move the champion on and sometimes back, while so many requests come in."""
    numbers = versions.good(min(4, promoted + 1))
    moves = _moves(numbers, promoted, rolled_back)
    surprises: list[str] = []
    versions.promote(numbers[0])
    server.follows(numbers[0])
    with versions.load(server.url) as load:
        for done, number in enumerate(moves, start=1):
            load.until(count // len(moves) // 2)
            versions.promote(number)
            server.follows(number)
            before = _others(load, number)
            load.until(count // len(moves) // 2)
            if (late := _others(load, number) - before) > CONNECTIONS:  # those that were under way are no more
                surprises.append(f"{late} answers were of a version before {number}, which all answered with")
            log.info("move %d of %d: %s answers", done, len(moves), f"{load.counts.answers:,}")
    if unseen := set(numbers) - set(load.counts.versions):
        surprises.append(f"no answer is of version {', '.join(sorted(unseen))}")
    fault = f"{promoted} promotions and {rolled_back} rollback{'s' if rolled_back > 1 else ''}"
    became = f"each followed by all workers; the slowest answer took {load.counts.slowest:.2f} s"
    return Found(fault, load.counts, became, surprises=surprises)


def bad_version(
    server: Watched, versions: Versions, count: int, *, number: str, fault: str, kills: bool = True
) -> Found:
    """Promote a version that must not answer, kill a worker with -9 if asked to, and then promote a good one."""
    first, second = versions.good(2)
    surprises = []
    versions.promote(first)
    server.follows(first)
    with versions.load(server.url) as load:
        load.until(count // 3)
        versions.promote(number)
        why = server.says_why()
        message, looks, goal = 0, 0, load.counts.answers + count // 3
        while looks < LOOKS or load.counts.answers < goal:
            looks += 1
            message += server.get("/health").json()["failure"] is not None
            time.sleep(0.05)
        if message < looks:
            surprises.append(f"/health says so at {message} of {looks} looks")
        its = server.kill_one() if kills else 0
        wait_until(lambda: all(one["model_version"] == first for one in server.workers), "the old one is back")
        versions.promote(second)
        server.follows(second)
        load.until(count // 3)
        if (failure := server.get("/health").json()["failure"]) is not None:
            surprises.append(f"/health says even now: {failure}")
    if number in load.counts.versions:
        surprises.append(f"it answers {load.counts.versions[number]} requests")
    returns = f"; a worker is killed, with {its} connections, and returns with the old one" if kills else ""
    became = f"the old one answers; /health: «{_short(why)}»{returns}; the next is followed"
    return Found(fault, load.counts, became, its, surprises)


def worker_killed(server: Watched, versions: Versions, count: int, *, times: int) -> Found:
    """Kill a worker with -9, several times one after the other."""
    (number,) = versions.good(1)
    counts, may_lose, surprises = Counts(), 0, []
    versions.promote(number)
    server.follows(number)
    for _ in range(times):
        with versions.load(server.url) as load:
            load.until(count // times // 2)
            its = server.kill_one()
            server.follows(number)
            load.until(count // times // 2)
        if load.counts.broke > its:
            surprises.append(f"{load.counts.broke} connections broke where the worker had {its}")
        counts, may_lose = counts + load.counts, may_lose + its
    became = f"replaced; of {times * CONNECTIONS} connections its {may_lose} broke, with a request at most on each"
    return Found(f"kill -9 of a worker, {times}×", counts, became, may_lose, surprises)


def log_disk_full(server: Watched, versions: Versions, count: int) -> Found:
    """Let the disk of the predictions log refuse every byte for a while."""
    (number,) = versions.good(1)
    versions.promote(number)
    server.follows(number)
    dropped, logged = server.number(DROPPED), server.number(LOGGED)
    with versions.load(server.url) as load:
        load.until(count // 3)
        with _full_disk(server.pids):
            wait_until(lambda: server.number(DROPPED) > dropped, "rows are dropped and counted")
            load.until(count // 3)
        before = server.number(LOGGED)
        wait_until(lambda: server.number(LOGGED) > before, "rows are logged again")
        load.until(count // 3)
    told = dropped + logged + load.counts.answers
    wait_until(lambda: server.number(DROPPED) + server.number(LOGGED) >= told, "every row is counted")
    became = f"{server.number(DROPPED) - dropped:,.0f} rows of the log are dropped and counted; all others are in it"
    return Found("the predictions log's disk is full", load.counts, became)


def disk_full(server: Watched, versions: Versions, count: int) -> Found:
    """Let the disk refuse every byte of all processes while the champion moves; there is room for the workers last."""
    first, second = versions.good(2)
    surprises = []
    versions.promote(first)
    server.follows(first)
    with versions.load(server.url) as load:
        pids = server.pids
        load.until(count // 3)
        with _full_disk(pids):
            with _full_disk({server.process.pid}):
                versions.promote(second)
                time.sleep(3)  # in which the follower looks at the registry
                load.until(count // 3)
            if not comes(lambda: load.counts.versions[second] > 0):
                surprises.append("the follower follows no more when it has room again")
        if not comes(lambda: server.get("/version").json()["model_version"] == second):
            surprises.append("the workers follow no more when they have room again")
        load.until(count // 3)
    became = "serves on; when there is room again, the promotion is followed"
    return Found("the whole disk is full", load.counts, became, surprises=surprises)


def registry_gone(versions: Versions, count: int, *, seconds: float, workers: int = WORKERS) -> Found:
    """Kill the registry, for so many seconds and requests at least, and start it again; then promote."""
    first, second = versions.good(2)
    versions.promote(first)
    tracking = Tracking(Path(".ct").resolve())
    with ExitStack() as there:
        there.enter_context(tracking)
        told = {"MLFLOW_TRACKING_URI": tracking.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        with Watched(workers=workers, **told) as server:
            server.follows(first)
            with versions.load(server.url) as load:
                load.until(count // 3)
                there.close()
                gone = time.monotonic()
                why = server.says_why()
                wait_until(lambda: server.number("ct_following") == 0, "/metrics say that nobody follows")
                while time.monotonic() < gone + seconds:
                    load.until(1)
                load.until(count // 3)
                lasted = time.monotonic() - gone
                there.enter_context(tracking)
                versions.promote(second)
                server.follows(second)
                load.until(count // 3)
                wait_until(lambda: server.number("ct_following") == workers, "/metrics say that all follow")
    became = f"gone for {lasted:.0f} s; /health: «{_short(why)}»; when it is back, a promotion is followed"
    return Found("the registry is killed, and comes back", load.counts, became)


def supervisor_killed(server: Watched, versions: Versions, count: int) -> Found:
    """Kill the process that supervises the workers with -9."""
    (number,) = versions.good(1)
    versions.promote(number)
    server.follows(number)
    with versions.load(server.url) as load:
        load.until(count)
        pids = server.pids
        at = time.monotonic()
        server.process.kill()
        wait_until(lambda: server.has_ended(pids), "the workers have ended")
    became = f"its workers end by themselves and leave the port; {_late(load, at)}"
    return Found("kill -9 of the supervisor", load.counts, became, *_ending(load, at))


def too_many(versions: Versions, count: int, *, seconds: float) -> Found:
    """Send more requests than a slow model can answer."""
    versions.promote(number := versions.slow(seconds))
    surprises = []
    with Watched("--waiting", str(WAITING), workers=1) as server:
        server.follows(number)
        with versions.load(server.url) as load:
            load.until(count)
    counts = load.counts
    if not counts.refused:
        surprises.append("nobody is sent away")
    if 2 * counts.overtook < counts.refused:
        surprises.append(
            f"{counts.refused - counts.overtook} of {counts.refused} refusals had waited for answers first"
        )
    became = f"{counts.refused:,} times 503 with Retry-After, at once; the slowest answer took {counts.slowest:.2f} s"
    return Found(f"{CONNECTIONS} clients, {seconds:g} s a call, --waiting {WAITING}", counts, became, 0, surprises)


def ended(server: Watched, versions: Versions, count: int, *, number: str, fault: str) -> Found:
    """Send SIGTERM while a version is asked."""
    surprises = []
    versions.promote(number)
    server.follows(number)
    pids = server.pids
    with versions.load(server.url) as load:
        load.until(count)
        at = time.monotonic()
        server.process.terminate()
        code = server.process.wait(60)
        took = time.monotonic() - at
    if code != 0:
        surprises.append(f"its exit code is {code}")
    if "timeout graceful shutdown exceeded" in server.stop():
        surprises.append("requests under way had no time to be answered")
    if not server.has_ended(pids):
        surprises.append("a process of it lives on")
    may_lose, more = _ending(load, at)
    became = f"ends with {code} after {took:.1f} s; {_late(load, at)}"
    return Found(fault, load.counts, became, may_lose, surprises + more)


def _moves(numbers: list[str], promoted: int, rolled_back: int) -> list[str]:
    """Return the champions one after the other: each next version, and here and there the one before."""
    moves = []
    for done in range(promoted):
        moves.append(numbers[(done + 1) % len(numbers)])
        if (done + 1) * rolled_back // promoted > done * rolled_back // promoted:
            moves.append(numbers[done % len(numbers)])
    return moves


def _others(load: Load, number: str) -> int:
    versions = Counter(load.counts.versions)
    return versions.total() - versions[number]


@contextmanager
def _full_disk(pids: set[int]) -> Iterator[None]:
    """Let the disk refuse every byte that these processes write to a file."""

    def room(size: int) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    room(0)
    try:
        yield
    finally:
        room(resource.RLIM_INFINITY)


def _ending(load: Load, at: float) -> tuple[int, list[str]]:
    """Return how many requests may be lost, for they were sent to a server that was ending; and what may not be."""
    late = [sent for sent in load.counts.lost if sent > at]
    early = len(load.counts.lost) - len(late)
    return len(late), [f"{early} requests that were sent before were lost"] if early else []


def _late(load: Load, at: float) -> str:
    return f"of what was sent after, {_ending(load, at)[0]} requests find their connection closed"


def _short(text: str) -> str:
    return text if len(text) <= 70 else f"{text[:69]}…"
