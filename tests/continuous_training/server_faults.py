"""Faults of a prediction server under load: each function causes one, and returns its effect on the requests.

Each sends a steady load to `ct serve` in the current workspace, with the toy model, and checks the predictions and the
status that the server reports. The tests send few requests, the benchmark many.

A server that is passed to a function is unchanged afterwards, unless the fault ends it.
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

from cloud.mlflow_server import MLFLOW, MlflowServer
from conftest import wait_until
from continuous_training.errors import UserError
from continuous_training.registry import model_versions
from continuous_training.serving import local_server
from continuous_training.serving.following.assignment import VersionReference
from continuous_training.serving.following.cache import VersionCache
from continuous_training.serving.supervisor import bind_socket
from load_generator import Counts, Load
from own_package import Gauge
from pipeline import Pipeline
from server import ServerProcess
from stored_versions import change_golden_prediction, load_estimator
from toy import change, events, import_again

log = logging.getLogger(__name__)

USE_OF_GAUGE = """

import gauge


class Gauged(Slow):
    def predict_proba(self, X):
        return super().predict_proba(X)[:, ::gauge.SIGN]
"""

ROWS = 300
CONNECTIONS = 32
WORKERS = 2
MAX_QUEUE = 5  # requests, for the fault of an overload
HEALTH_CHECKS = 30
DROPPED_ROWS, LOGGED_ROWS = ('ct_logged_rows_total{outcome="dropped"}', 'ct_logged_rows_total{outcome="logged"}')

MODEL = Path("src/toy/model.py")
SLOW_MODEL = """

import time

POWER = 0


class Slow(LogisticRegression):
    def __init__(self, seconds=0.0, C=1.0):
        super().__init__(C=C)
        self.seconds = seconds

    def predict_proba(self, X):
        time.sleep(self.seconds)
        powers = super().predict_proba(X) ** POWER
        return powers / powers.sum(axis=1, keepdims=True)
"""


@dataclass(frozen=True)
class FaultResult:
    """The effect of a fault on the requests and on the server."""

    fault: str
    counts: Counts
    outcome: str
    max_lost_requests: int = 0  # requests
    violations: list[str] = field(default_factory=list)  # of what the server should do or report

    @property
    def row(self) -> dict[str, object]:
        """The row of the table."""
        return {
            "server fault": self.fault,
            "predictions": f"{self.counts.predictions:,}",
            "failed": self.counts.failed,
            "wrong": self.counts.wrong,
            "server outcome": "; but ".join([self.outcome, *self.violations]),
        }

    @property
    def errors(self) -> list[str]:
        """The effects that are not permitted."""
        counts, errors = self.counts, []
        if counts.wrong:
            errors.append(f"{counts.wrong} predictions were wrong")
        if counts.errors:
            errors.append(f"{counts.errors.total()} requests got {dict(counts.errors)}")
        if len(counts.lost) > self.max_lost_requests:
            errors.append(f"{len(counts.lost)} requests were lost, at most {self.max_lost_requests} are permitted")
        return [*self.violations, *errors, *(counts.examples if errors else [])]


class ToyVersions:
    """Versions of the toy model in the current workspace, and their offline predictions for the rows of the load.

    Each has code of its own, and packages of its own if there is a gauge; its predictions depend on both.
    """

    def __init__(self, patch: pytest.MonkeyPatch, *, pause: float = 0.0, gauge: Gauge | None = None) -> None:
        """Replace the workspace's toy model with one that can be slow.

        Args:
            patch: changes the environment.
            pause: the seconds between a response and the client's next request.
            gauge: a package that the versions use, in turn in one version of it and in the other.
        """
        self._gauge = gauge
        self._patch = patch
        self._pause = pause
        self._frame = events()[["shade", "x", "y"]].head(ROWS)
        values = self._frame.astype(object).to_numpy().tolist()
        self.rows = {
            "columns": list(self._frame.columns),
            "data": [[None if pd.isna(value) else value for value in row] for row in values],
        }
        self.expected: dict[str, list[list[float]]] = {}
        self._good: list[str] = []
        self._slow: dict[float, str] = {}
        with MODEL.open("a") as model:
            model.write(SLOW_MODEL)
            if gauge:
                model.write(USE_OF_GAUGE)
        change("LogisticRegression(**parameters))", f"{'Gauged' if gauge else 'Slow'}(**parameters))", MODEL)
        self._parameters = "{C: 1.0}"

    def good_versions(self, count: int) -> list[str]:
        """Return the numbers of versions whose predictions all differ."""
        while len(self._good) < count:
            self._good.append(self._register())
        return self._good[:count]

    def slow_version(self, seconds: float) -> str:
        """Return the number of a version whose calls take the given time."""
        if seconds not in self._slow:
            self._slow[seconds] = self._register(seconds=seconds)
        return self._slow[seconds]

    def register_corrupt(self) -> str:
        """Register a version that cannot be loaded."""
        number = self._register()
        models = Path(".ct/artifacts").rglob("model.skops")
        max(models, key=lambda path: path.stat().st_mtime_ns).write_bytes(b"corrupt")
        return number

    def register_deviating(self) -> str:
        """Register a version whose predictions differ from its golden predictions."""
        number = self._register()
        change_golden_prediction(self._model_uri)
        return number

    def promote(self, number: str) -> None:
        """Make a version the champion."""
        self._client.set_registered_model_alias("toy", model_versions.CHAMPION, number)

    def download(self, *numbers: str) -> None:
        """Download versions for the servers of this workspace: a server of another address has no other way to them."""
        model, cache = model_versions.registered_model(self._client, "toy"), VersionCache("toy")
        assert model is not None
        for number in numbers:
            version = model_versions.by_number(self._client, "toy", number)
            assert version is not None
            identity = model_versions.identity_of(model)
            reference = VersionReference(identity=identity, name="toy", number=number, run_id=version.run_id)
            cache.download(reference)
            cache.locate(reference).touch()  # the oldest ones are removed

    def load(self, url: str) -> Load:
        """Return a load on a server, which compares each prediction with the version's offline prediction."""
        return Load(url, self.rows, self.expected, connections=CONNECTIONS, pause=self._pause)

    def _register(self, **parameters: float) -> str:
        line = json.dumps({"C": 2.0 ** -len(self.expected), **parameters})
        change(f"parameters: {self._parameters}", f"parameters: {line}")
        power = len(self.expected)
        change(f"POWER = {power}\n", f"POWER = {power + 1}\n", MODEL)
        if self._gauge:
            self._gauge.install(f"{1 + power % 2}.0")
        import_again(self._patch)
        self._parameters = line
        run = Pipeline(self._patch, MODEL="toy", AS_OF="2020-03-01")
        run.register(compare=False)
        self._client, self._model_uri = run.client, run.candidate.model_uri
        number = run.registration.model_version
        estimator = load_estimator(f"models:/toy/{number}")
        self.expected[number] = estimator.predict_proba(self._frame).tolist()
        return number


class MonitoredServer(ServerProcess):
    """A server process whose status can be read while its workers die: failed connections are repeated."""

    def __init__(self, *arguments: str, workers: int = WORKERS, **environment: str) -> None:
        path = os.pathsep.join(filter(None, [str(Path("src").resolve()), os.environ.get("PYTHONPATH")]))
        folder = str(Path(".ct").resolve())  # a killed supervisor leaves the files of its workers there
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

    def read_metric(self, name: str) -> float:
        """Return a value of /metrics."""
        for line in self.get("/metrics").text.splitlines():
            metric, _, value = line.rpartition(" ")
            if metric == name:
                return float(value)
        return 0.0

    def wait_for_failures(self) -> str:
        """Wait until each worker has reported that it cannot follow the registry; return one of the reasons."""
        failures: dict[int, str] = {}

        def all_workers_fail() -> bool:
            workers = self.workers
            failures.update({worker["pid"]: worker["failure"] for worker in workers if worker["failure"]})
            return {worker["pid"] for worker in workers} <= failures.keys()

        wait_until(all_workers_fail, "each worker reports a failure")
        return next(iter(failures.values()))

    def wait_for_version(self, version: str) -> None:
        """Wait until every worker serves a version."""
        wait_until(lambda: self.serves(version), f"all workers serve version {version}")

    def serves(self, version: str) -> bool:
        """Return whether every worker serves a version."""
        return bool(self.get("/version").json()["model_version"] == version)

    def is_usable(self, version: str) -> bool:
        """Return whether it runs, and every worker serves a version or soon does."""
        return self.process.poll() is None and becomes_true(lambda: self.serves(version))

    def kill_worker(self) -> int:
        """Kill a worker with -9; return the number of its connections."""
        pid = min(self.pids)
        port = int(self.url.rpartition(":")[2])
        sockets = psutil.Process(pid).net_connections("tcp")
        connections = [socket for socket in sockets if socket.laddr.port == port and socket.raddr]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in self.pids and len(self.workers) == self._count, "the worker is replaced")
        return len(connections)

    def has_ended(self, pids: set[int]) -> bool:
        """Return whether these processes have ended, and the port is free."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        try:
            bind_socket(host, int(port), shared=False).close()
        except UserError:
            return False
        return not any(local_server.is_running(pid) for pid in pids)


def becomes_true(condition: Callable[[], object], seconds: float = 30) -> bool:
    """Wait for a condition that may stay false."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


def promote_and_roll_back(
    server: MonitoredServer, versions: ToyVersions, count: int, *, promotions: int, rollbacks: int
) -> FaultResult:
    """Promote versions and roll some of them back, under a load of `count` requests."""
    numbers = versions.good_versions(min(4, promotions + 1))
    champions = _list_champions(numbers, promotions, rollbacks)
    violations: list[str] = []
    durations: dict[bool, list[float]] = {False: [], True: []}  # seconds, by whether the change is a rollback
    versions.promote(numbers[0])
    server.wait_for_version(numbers[0])
    with versions.load(server.url) as load:
        for index, (number, is_rollback) in enumerate(champions, start=1):
            load.wait_for_predictions(count // len(champions) // 2)
            start = time.monotonic()
            versions.promote(number)
            server.wait_for_version(number)
            durations[is_rollback].append(time.monotonic() - start)
            before = _count_other_versions(load, number)
            load.wait_for_predictions(count // len(champions) // 2)
            late = _count_other_versions(load, number) - before
            if late > CONNECTIONS:  # more than the requests in flight
                violations.append(f"{late} predictions are of versions before {number}, which all workers serve")
            log.info("change %d of %d: %s predictions", index, len(champions), f"{load.counts.predictions:,}")
    if missing := set(numbers) - set(load.counts.versions):
        violations.append(f"no prediction is of version {', '.join(sorted(missing))}")
    fault = f"{promotions} promotions and {rollbacks} rollback{'s' if rollbacks > 1 else ''}"
    outcome = (
        f"all workers follow a promotion within {max(durations[False]):.1f} s, a rollback within "
        f"{max(durations[True], default=0):.1f} s; the slowest prediction took {load.counts.max_seconds:.2f} s"
    )
    return FaultResult(fault, load.counts, outcome, violations=violations)


def promote_bad_version(
    server: MonitoredServer, versions: ToyVersions, count: int, *, number: str, fault: str, kill: bool = True
) -> FaultResult:
    """Promote a version that must not be served, optionally kill a worker with -9, and then promote a good version."""
    first, second = versions.good_versions(2)
    violations = []
    versions.promote(first)
    server.wait_for_version(first)
    with versions.load(server.url) as load:
        load.wait_for_predictions(count // 3)
        versions.promote(number)
        reason = server.wait_for_failures()
        failures, checks, goal = 0, 0, load.counts.predictions + count // 3
        while checks < HEALTH_CHECKS or load.counts.predictions < goal:
            checks += 1
            failures += server.get("/health").json()["failure"] is not None
            time.sleep(0.05)
        if failures < checks:
            violations.append(f"/health reports the failure in {failures} of {checks} checks")
        connections = server.kill_worker() if kill else 0
        wait_until(
            lambda: all(worker["model_version"] == first for worker in server.workers), "the old version is served"
        )
        versions.promote(second)
        server.wait_for_version(second)
        load.wait_for_predictions(count // 3)
        if (failure := server.get("/health").json()["failure"]) is not None:
            violations.append(f"/health still reports: {failure}")
    if number in load.counts.versions:
        violations.append(f"{load.counts.versions[number]} predictions are of it")
    kill_outcome = (
        f"; a worker with {connections} connections is killed, its successor serves the old one" if kill else ""
    )
    outcome = f"the old version is served; /health: '{_shorten(reason)}'{kill_outcome}; the next one is followed"
    return FaultResult(fault, load.counts, outcome, connections, violations)


def kill_workers(server: MonitoredServer, versions: ToyVersions, count: int, *, times: int) -> FaultResult:
    """Kill a worker with -9, several times."""
    (number,) = versions.good_versions(1)
    counts, max_lost_requests, violations = Counts(), 0, []
    versions.promote(number)
    server.wait_for_version(number)
    for _ in range(times):
        with versions.load(server.url) as load:
            load.wait_for_predictions(count // times // 2)
            connections = server.kill_worker()
            server.wait_for_version(number)
            load.wait_for_predictions(count // times // 2)
        if load.counts.broke > connections:
            violations.append(f"{load.counts.broke} connections broke, and the worker had {connections}")
        counts, max_lost_requests = counts + load.counts, max_lost_requests + connections
    outcome = (
        f"replaced; {max_lost_requests} of {times * CONNECTIONS} connections broke, with at most one request on each"
    )
    return FaultResult(f"kill -9 of a worker, {times}×", counts, outcome, max_lost_requests, violations)


def fill_log_disk(server: MonitoredServer, versions: ToyVersions, count: int) -> FaultResult:
    """Make the workers' writes fail for a while, as on a full disk."""
    (number,) = versions.good_versions(1)
    versions.promote(number)
    server.wait_for_version(number)
    dropped_before, logged_before = server.read_metric(DROPPED_ROWS), server.read_metric(LOGGED_ROWS)
    with versions.load(server.url) as load:
        load.wait_for_predictions(count // 3)
        with _full_disk(server.pids):
            wait_until(lambda: server.read_metric(DROPPED_ROWS) > dropped_before, "rows are dropped and counted")
            load.wait_for_predictions(count // 3)
        before = server.read_metric(LOGGED_ROWS)
        wait_until(lambda: server.read_metric(LOGGED_ROWS) > before, "rows are logged again")
        load.wait_for_predictions(count // 3)
    total = dropped_before + logged_before + load.counts.predictions
    wait_until(
        lambda: server.read_metric(DROPPED_ROWS) + server.read_metric(LOGGED_ROWS) >= total, "every row is counted"
    )
    outcome = (
        f"{server.read_metric(DROPPED_ROWS) - dropped_before:,.0f} rows are dropped and counted; all others are logged"
    )
    return FaultResult("the predictions log's disk is full", load.counts, outcome)


def fill_disk(server: MonitoredServer, versions: ToyVersions, count: int) -> FaultResult:
    """Make the writes of all processes fail while the champion changes; the workers recover last."""
    first, second = versions.good_versions(2)
    violations = []
    versions.promote(first)
    server.wait_for_version(first)
    with versions.load(server.url) as load:
        pids = server.pids
        load.wait_for_predictions(count // 3)
        with _full_disk(pids):
            with _full_disk({server.process.pid}):
                versions.promote(second)
                time.sleep(3)  # the follower polls the registry meanwhile
                load.wait_for_predictions(count // 3)
            if not becomes_true(lambda: load.counts.versions[second] > 0):
                violations.append("the follower does not follow after its disk has space again")
        if not becomes_true(lambda: server.serves(second)):
            violations.append("the workers do not follow after their disk has space again")
        load.wait_for_predictions(count // 3)
    outcome = "continues to serve; when there is space again, the promotion is followed"
    return FaultResult("the whole disk is full", load.counts, outcome, violations=violations)


def kill_registry(
    versions: ToyVersions, count: int, *, seconds: float, workers: int = WORKERS, mlflow: Path = MLFLOW
) -> FaultResult:
    """Kill the registry for at least `seconds` and a third of the requests, restart it, and promote a version."""
    first, second = versions.good_versions(2)
    versions.promote(first)
    versions.download(first, second)
    tracking = MlflowServer(Path(".ct").resolve(), mlflow)
    with ExitStack() as resources:
        resources.enter_context(tracking)
        environment = {"MLFLOW_TRACKING_URI": tracking.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        with MonitoredServer(workers=workers, **environment) as server:
            server.wait_for_version(first)
            with versions.load(server.url) as load:
                load.wait_for_predictions(count // 3)
                resources.close()
                start = time.monotonic()
                reason = server.wait_for_failures()
                wait_until(lambda: server.read_metric("ct_following") == 0, "/metrics report that no worker follows")
                while time.monotonic() < start + seconds:
                    load.wait_for_predictions(1)
                load.wait_for_predictions(count // 3)
                duration = time.monotonic() - start
                resources.enter_context(tracking)
                versions.promote(second)
                server.wait_for_version(second)
                load.wait_for_predictions(count // 3)
                wait_until(
                    lambda: server.read_metric("ct_following") == workers, "/metrics report that all workers follow"
                )
    outcome = f"unavailable for {duration:.0f} s; /health: '{_shorten(reason)}'; afterwards a promotion is followed"
    return FaultResult("the registry is killed and restarted", load.counts, outcome)


def kill_supervisor(server: MonitoredServer, versions: ToyVersions, count: int) -> FaultResult:
    """Kill the supervisor with -9."""
    (number,) = versions.good_versions(1)
    versions.promote(number)
    server.wait_for_version(number)
    with versions.load(server.url) as load:
        load.wait_for_predictions(count)
        pids = server.pids
        end = time.monotonic()
        server.process.kill()
        wait_until(lambda: server.has_ended(pids), "the workers have ended")
    outcome = f"its workers end by themselves and release the port; {_describe_late_requests(load, end)}"
    return FaultResult("kill -9 of the supervisor", load.counts, outcome, *_split_lost_requests(load, end))


def overload(versions: ToyVersions, count: int, *, seconds: float) -> FaultResult:
    """Send more requests than a slow model can predict."""
    versions.promote(number := versions.slow_version(seconds))
    violations = []
    with MonitoredServer("--max-queue", str(MAX_QUEUE), workers=1) as server:
        server.wait_for_version(number)
        with versions.load(server.url) as load:
            load.wait_for_predictions(count)
    counts = load.counts
    if not counts.rejected:
        violations.append("no request is rejected")
    if 2 * counts.rejected_early < counts.rejected:
        late_rejections = counts.rejected - counts.rejected_early
        violations.append(
            f"{late_rejections} of {counts.rejected} rejected requests had waited for other responses first"
        )
    outcome = f"{counts.rejected:,} times 503 with Retry-After, at once; the slowest took {counts.max_seconds:.2f} s"
    fault = f"{CONNECTIONS} clients, {seconds:g} s a call, --max-queue {MAX_QUEUE}"
    return FaultResult(fault, counts, outcome, 0, violations)


def terminate(server: MonitoredServer, versions: ToyVersions, count: int, *, number: str, fault: str) -> FaultResult:
    """Send SIGTERM under load."""
    violations = []
    versions.promote(number)
    server.wait_for_version(number)
    pids = server.pids
    with versions.load(server.url) as load:
        load.wait_for_predictions(count)
        end = time.monotonic()
        server.process.terminate()
        code = server.process.wait(60)
        duration = time.monotonic() - end
    if code != 0:
        violations.append(f"its exit code is {code}")
    if "timeout graceful shutdown exceeded" in server.stop():
        violations.append("current requests were cut off")
    if not server.has_ended(pids):
        violations.append("one of its processes still runs")
    max_lost_requests, more = _split_lost_requests(load, end)
    outcome = f"exits with {code} after {duration:.1f} s; {_describe_late_requests(load, end)}"
    return FaultResult(fault, load.counts, outcome, max_lost_requests, violations + more)


def _list_champions(numbers: list[str], promotions: int, rollbacks: int) -> list[tuple[str, bool]]:
    """Return the champions in their order: the next version each time, and sometimes the previous one again (True)."""
    champions = []
    for index in range(promotions):
        champions.append((numbers[(index + 1) % len(numbers)], False))
        if (index + 1) * rollbacks // promotions > index * rollbacks // promotions:
            champions.append((numbers[index % len(numbers)], True))
    return champions


def _count_other_versions(load: Load, number: str) -> int:
    versions = Counter(load.counts.versions)
    return versions.total() - versions[number]


@contextmanager
def _full_disk(pids: set[int]) -> Iterator[None]:
    """Make all writes of these processes to files fail."""

    def limit_file_size(size: int) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    limit_file_size(0)
    try:
        yield
    finally:
        limit_file_size(resource.RLIM_INFINITY)


def _split_lost_requests(load: Load, end: float) -> tuple[int, list[str]]:
    """Return the number of lost requests that were sent after the server's end began, and a violation for others."""
    late = [start for start in load.counts.lost if start > end]
    early = len(load.counts.lost) - len(late)
    return len(late), [f"{early} requests that were sent before were lost"] if early else []


def _describe_late_requests(load: Load, end: float) -> str:
    return f"{_split_lost_requests(load, end)[0]} requests that were sent later found their connection closed"


def _shorten(text: str) -> str:
    return text if len(text) <= 70 else f"{text[:69]}…"
