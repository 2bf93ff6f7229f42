"""A version's counters on the servers, read from /metrics: requests, errors, durations and agreement."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import requests
from prometheus_client.parser import text_string_to_metric_families

from continuous_training.errors import UserError
from continuous_training.serving.rollout.client import call_server

if TYPE_CHECKING:
    from prometheus_client.samples import Sample


@dataclass(frozen=True)
class Counters:
    """What one version did in one role: successful and failed requests, their durations, and rows compared.

    `durations` counts requests by the upper bound, in seconds, of their histogram bucket.
    """

    successes: int = 0
    failures: int = 0
    durations: dict[float, int] = field(default_factory=dict)
    agreements: int = 0
    differences: int = 0

    def __add__(self, other: Counters) -> Counters:
        bounds = self.durations.keys() | other.durations.keys()
        return Counters(
            successes=self.successes + other.successes,
            failures=self.failures + other.failures,
            durations={bound: self.durations.get(bound, 0) + other.durations.get(bound, 0) for bound in bounds},
            agreements=self.agreements + other.agreements,
            differences=self.differences + other.differences,
        )

    def __neg__(self) -> Counters:
        durations = {bound: -count for bound, count in self.durations.items()}
        return Counters(-self.successes, -self.failures, durations, -self.agreements, -self.differences)

    def __sub__(self, other: Counters) -> Counters:
        return self + -other

    @property
    def negative(self) -> bool:
        """Whether any count is negative, which in a difference means that the server was restarted."""
        return min(self.successes, self.failures, self.agreements, self.differences, *self.durations.values()) < 0

    @property
    def requests(self) -> int:
        """The number of requests, without those that were rejected because the queue was full."""
        return self.successes + self.failures

    @property
    def rows(self) -> int:
        """The number of rows that were compared with the champion's predictions."""
        return self.agreements + self.differences

    @property
    def error_share(self) -> float:
        """The share of requests that failed."""
        return self.failures / self.requests if self.requests else 0.0

    @property
    def agreement(self) -> float:
        """The share of rows on which the version agrees with the champion."""
        return self.agreements / self.rows if self.rows else 1.0

    def percentile(self, share: float) -> float:
        """Return the duration in milliseconds that this share of the requests does not exceed.

        As Prometheus' histogram_quantile: linear within the bucket; in the bucket without an upper bound, its lower one
        (https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile).
        """
        rank = share * sum(self.durations.values())
        lower, total = 0.0, 0
        for bound in sorted(self.durations):
            count = self.durations[bound]
            if count and total + count >= rank:
                offset = 0.0 if math.isinf(bound) else (bound - lower) * (rank - total) / count
                return 1000 * (lower + offset)
            lower, total = bound, total + count
        return 0.0

    def count_slower(self, milliseconds: float) -> int:
        """Count the requests that certainly took longer: those whose whole bucket is above."""
        bounds = [0.0, *sorted(self.durations)]
        above = (upper for lower, upper in pairwise(bounds) if 1000 * lower >= milliseconds)
        return sum(self.durations[upper] for upper in above)


CountersByRole = dict[tuple[str, str], Counters]  # of one server, by version and role


def read_counters(url: str) -> CountersByRole:
    """Read the counters of a server.

    Comparisons are counted for a version without its role, so both roles of a candidate get them: those of one role are
    the difference between the counters after and before it.

    Raises:
        UserError: they cannot be read.
    """
    try:
        response = call_server(url, "/metrics")
        response.raise_for_status()
        families = list(text_string_to_metric_families(response.text))
    except (requests.RequestException, ValueError) as error:
        raise UserError(f"cannot read {url}/metrics: {str(error).partition(chr(10))[0]}") from error
    counters: CountersByRole = {}
    for sample in (sample for family in families for sample in family.samples):
        for role, count in _parse_sample(sample):
            key = (sample.labels["version"], role)
            counters[key] = counters.get(key, Counters()) + count
    return {key: replace(one, durations=_to_separate_buckets(one.durations)) for key, one in counters.items()}


def subtract(after: CountersByRole, before: CountersByRole) -> CountersByRole:
    """Return the increase of a server's counters; if any has decreased, the server was restarted and began at zero."""
    increase = {key: after.get(key, Counters()) - counters for key, counters in before.items()}
    return after if any(counters.negative for counters in increase.values()) else after | increase


def _parse_sample(sample: Sample) -> list[tuple[str, Counters]]:
    """Return the counts in one line of /metrics, with the roles that they belong to."""
    labels = sample.labels
    if sample.name == "ct_answers_total" and labels["outcome"] == "ok":
        return [(labels["role"], Counters(successes=int(sample.value)))]
    if sample.name == "ct_answers_total" and labels["outcome"] == "error":
        return [(labels["role"], Counters(failures=int(sample.value)))]
    if sample.name == "ct_answer_seconds_bucket":
        return [(labels["role"], Counters(durations={float(labels["le"]): int(sample.value)}))]
    if sample.name == "ct_compared_rows_total":
        count = int(sample.value)
        counters_of_rows = Counters(agreements=count) if labels["agreed"] == "true" else Counters(differences=count)
        return [("canary", counters_of_rows), ("shadow", counters_of_rows)]
    return []


def _to_separate_buckets(durations: dict[float, int]) -> dict[float, int]:
    """Convert Prometheus' cumulative buckets to the counts of each bucket alone."""
    bounds = sorted(durations)
    smaller = [0, *(durations[bound] for bound in bounds)]
    return {bound: durations[bound] - less for bound, less in zip(bounds, smaller, strict=False)}
