"""What Prometheus is told, of all workers of this server together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTENT_TYPE = CONTENT_TYPE_LATEST
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # where the workers keep their numbers; read when prometheus_client is imported
SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class Metrics:
    """The counters of one worker.

    An answer is counted for the version and the role (champion, canary, shadow) that gave it, with its outcome: `ok`,
    `error`, or `busy` if it was sent away; a request by its path and HTTP status, whatever became of it.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("ct_requests", "Requests", ["path", "status"], registry=registry)
        self._request_seconds = Histogram(
            "ct_request_seconds", "From the first byte to the answer", ["path"], buckets=SECONDS, registry=registry
        )
        self._answers = Counter("ct_answers", "Requests answered", ["version", "role", "outcome"], registry=registry)
        self._answer_seconds = Histogram(
            "ct_answer_seconds", "In the queue and the model", ["version", "role"], buckets=SECONDS, registry=registry
        )
        self._calls = Histogram(
            "ct_call_seconds", "One call of the model", ["version"], buckets=SECONDS, registry=registry
        )
        self._rows = Histogram("ct_call_rows", "Rows of one call of the model", buckets=ROWS, registry=registry)
        self._compared = Counter(
            "ct_compared_rows", "Rows that two versions answered", ["version", "agreed"], registry=registry
        )
        self._failures = Counter(
            "ct_follow_failures", "Times that something began to keep a worker from following", registry=registry
        )
        self._log = Counter("ct_logged_rows", "Rows of the predictions log", ["outcome"], registry=registry)
        self.waiting = Gauge("ct_waiting", "Waiting requests", multiprocess_mode="livesum", registry=registry)
        self._following = Gauge(
            "ct_following", "Workers that have what the registry wants", multiprocess_mode="livesum", registry=registry
        )
        self._serving = Gauge(
            "ct_serving", "Workers that serve a version", ["version"], multiprocess_mode="livesum", registry=registry
        )
        self._version: str | None = None
        self._log.labels("dropped")  # an alert on it needs a zero to begin with

    def requested(self, path: str, status: int, seconds: float) -> None:
        """Count a request that got this status after these seconds."""
        self._requests.labels(path, status).inc()
        self._request_seconds.labels(path).observe(seconds)

    def answered(self, version: str, role: str, outcome: str, seconds: float | None) -> None:
        """Count a request that a version answered, or could not answer; one that it never saw took it no time."""
        self._answers.labels(version, role, outcome).inc()
        if seconds is not None:
            self._answer_seconds.labels(version, role).observe(seconds)

    def called(self, version: str, rows: int, seconds: float) -> None:
        """Count a call of a version's model."""
        self._calls.labels(version).observe(seconds)
        self._rows.observe(rows)

    def compared(self, version: str, agreed: int, differed: int) -> None:
        """Count the rows that a canary or shadow answered as the champion did, and those that it did not."""
        self._compared.labels(version, "true").inc(agreed)
        self._compared.labels(version, "false").inc(differed)

    def serves(self, version: str | None, *, well: bool) -> None:
        """Say which version this worker serves now, and whether it is the one that is wanted."""
        if version != self._version and self._version is not None:
            self._serving.labels(self._version).set(0)
        if version is not None:
            self._serving.labels(version).set(1)
        self._version = version
        self._following.set(well)
        if not well:
            self._failures.inc()

    def logged(self, outcome: str, rows: int) -> None:
        """Count rows of the predictions log that were `logged` or `dropped`."""
        self._log.labels(outcome).inc(rows)

    def text(self) -> bytes:
        """Return all numbers of all workers in Prometheus' format."""
        if SHARED not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def forget(workers: Iterable[int]) -> None:
    """Leave the gauges of dead workers (process ids) out; what they counted stays counted."""
    if SHARED in os.environ:
        for pid in workers:
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
