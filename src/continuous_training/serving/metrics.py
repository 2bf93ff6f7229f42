"""Prometheus metrics, summed over all workers of this server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTENT_TYPE = CONTENT_TYPE_LATEST
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # the workers' files; read when prometheus_client is imported
SECONDS_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class Metrics:
    """The metrics of one worker.

    A prediction is counted for the version and the role (champion, canary, shadow) that made it, with its outcome:
    `ok`, `error`, or `busy` if the queue was full. Every request is counted by its path and HTTP status.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("ct_requests", "Requests", ["path", "status"], registry=registry)
        self._request_seconds = Histogram(
            "ct_request_seconds",
            "Seconds from a request's first byte to its response",
            ["path"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._predictions = Counter(
            "ct_answers", "Requests by outcome", ["version", "role", "outcome"], registry=registry
        )
        self._prediction_seconds = Histogram(
            "ct_answer_seconds",
            "Seconds in the queue and in the model",
            ["version", "role"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._call_seconds = Histogram(
            "ct_call_seconds",
            "Seconds of one call of the model",
            ["version"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._call_rows = Histogram(
            "ct_call_rows", "Rows in one call of the model", buckets=ROWS_BUCKETS, registry=registry
        )
        self._comparisons = Counter(
            "ct_compared_rows", "Rows that two versions predicted", ["version", "agreed"], registry=registry
        )
        self._failures = Counter(
            "ct_follow_failures", "Times that a worker began to fail to follow the registry", registry=registry
        )
        self._log = Counter("ct_logged_rows", "Rows of the predictions log", ["outcome"], registry=registry)
        self.queue_length = Gauge("ct_waiting", "Requests in the queue", multiprocess_mode="livesum", registry=registry)
        self._following = Gauge(
            "ct_following", "Workers that follow the registry", multiprocess_mode="livesum", registry=registry
        )
        self._serving = Gauge(
            "ct_serving", "Workers that serve a version", ["version"], multiprocess_mode="livesum", registry=registry
        )
        self._deaths = Counter("ct_version_deaths", "Processes of versions that died", ["version"], registry=registry)
        self._version: str | None = None
        self._log.labels("dropped")  # an alert on an increase needs an initial zero

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request, its status and its duration."""
        self._requests.labels(path, status).inc()
        self._request_seconds.labels(path).observe(seconds)

    def count_prediction(self, version: str, role: str, outcome: str, seconds: float | None) -> None:
        """Count the outcome of a request for a version; `seconds` is None if the version was never called."""
        self._predictions.labels(version, role, outcome).inc()
        if seconds is not None:
            self._prediction_seconds.labels(version, role).observe(seconds)

    def count_call(self, version: str, rows: int, seconds: float) -> None:
        """Count a call of a version's model."""
        self._call_seconds.labels(version).observe(seconds)
        self._call_rows.observe(rows)

    def count_comparison(self, version: str, agreements: int, differences: int) -> None:
        """Count the rows on which a canary or shadow agreed with the champion, and those on which it did not."""
        self._comparisons.labels(version, "true").inc(agreements)
        self._comparisons.labels(version, "false").inc(differences)

    def set_version(self, version: str | None, *, following: bool) -> None:
        """Set the version that this worker serves, and whether it follows the registry."""
        if version != self._version and self._version is not None:
            self._serving.labels(self._version).set(0)
        if version is not None:
            self._serving.labels(version).set(1)
        self._version = version
        self._following.set(following)
        if not following:
            self._failures.inc()

    def count_death(self, version: str) -> None:
        """Count a version's process that has died."""
        self._deaths.labels(version).inc()

    def count_log_rows(self, outcome: str, rows: int) -> None:
        """Count rows of the predictions log: `logged` or `dropped`."""
        self._log.labels(outcome).inc(rows)

    def render(self) -> bytes:
        """Return the metrics of all workers in Prometheus' text format."""
        if DIRECTORY_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def remove_dead_workers(pids: Iterable[int]) -> None:
    """Remove the gauges of dead workers; their counters stay in the sums."""
    if DIRECTORY_VARIABLE in os.environ:
        for pid in pids:
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
