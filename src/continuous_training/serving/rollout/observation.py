"""What a version does on the servers, by their own numbers: read from /metrics, subtracted, and held against limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import requests
from prometheus_client.parser import text_string_to_metric_families
from scipy.special import bdtrc

from continuous_training.documents import Deployment, format_percent
from continuous_training.errors import UserError
from continuous_training.serving.rollout import client as questions

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

    from continuous_training.settings import Serving

SLOWEST = 0.01  # the share of requests that may take longer than max_milliseconds
LUCK = 0.001  # how rarely a version that just keeps a limit may look like one that breaks it, before its time is over


@dataclass(frozen=True)
class Numbers:
    """What one version did in one role: requests that it answered or failed, their times, and rows compared.

    `times` counts requests by the upper bound, in seconds, of the bucket that they fell into.
    """

    answered: int = 0
    failed: int = 0
    times: dict[float, int] = field(default_factory=dict)
    agreed: int = 0
    differed: int = 0

    def __add__(self, other: Numbers) -> Numbers:
        bounds = self.times.keys() | other.times.keys()
        return Numbers(
            answered=self.answered + other.answered,
            failed=self.failed + other.failed,
            times={bound: self.times.get(bound, 0) + other.times.get(bound, 0) for bound in bounds},
            agreed=self.agreed + other.agreed,
            differed=self.differed + other.differed,
        )

    def __neg__(self) -> Numbers:
        times = {bound: -count for bound, count in self.times.items()}
        return Numbers(-self.answered, -self.failed, times, -self.agreed, -self.differed)

    def __sub__(self, other: Numbers) -> Numbers:
        return self + -other

    @property
    def fell(self) -> bool:
        """Whether a difference is negative anywhere, as no counter's can be while its server runs."""
        return min(self.answered, self.failed, self.agreed, self.differed, *self.times.values()) < 0

    @property
    def requests(self) -> int:
        """All that count; one that was sent away because too many waited is neither answered nor failed."""
        return self.answered + self.failed

    @property
    def rows(self) -> int:
        """All rows that were compared with the champion's."""
        return self.agreed + self.differed

    @property
    def error_share(self) -> float:
        """The share of requests that failed."""
        return self.failed / self.requests if self.requests else 0.0

    @property
    def agreement(self) -> float:
        """The share of rows on which the version agrees with the champion."""
        return self.agreed / self.rows if self.rows else 1.0

    def percentile(self, share: float) -> float:
        """Return the milliseconds within which this share of the requests had an answer.

        As Prometheus' histogram_quantile has it: linear within the bucket that holds it, and of the bucket without an
        upper bound the lower one (https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile).
        """
        rank = share * sum(self.times.values())
        lower, seen = 0.0, 0
        for bound in sorted(self.times):
            count = self.times[bound]
            if count and seen + count >= rank:
                within = 0.0 if math.isinf(bound) else (bound - lower) * (rank - seen) / count
                return 1000 * (lower + within)
            lower, seen = bound, seen + count
        return 0.0

    def slower(self, milliseconds: float) -> int:
        """Count the requests that surely took longer: those whose whole bucket lies above."""
        bounds = [0.0, *sorted(self.times)]
        above = (upper for lower, upper in pairwise(bounds) if 1000 * lower >= milliseconds)
        return sum(self.times[upper] for upper in above)


Look = dict[tuple[str, str], Numbers]  # at a server: by version and role


def read(url: str) -> Look:
    """Look at the numbers of a server.

    Its comparisons are counted for a version and not for a role, so both roles beside the champion are given them: what
    came of one role is the difference of two looks.

    Raises:
        UserError: it does not tell them.
    """
    try:
        answer = questions.ask(url, "/metrics")
        answer.raise_for_status()
        families = list(text_string_to_metric_families(answer.text))
    except (requests.RequestException, ValueError) as error:
        raise UserError(f"{url} does not tell its numbers: {str(error).partition(chr(10))[0]}") from error
    look: Look = {}
    for sample in (sample for family in families for sample in family.samples):
        for role, numbers in _numbers(sample):
            key = (sample.labels["version"], role)
            look[key] = look.get(key, Numbers()) + numbers
    return {key: replace(numbers, times=_apart(numbers.times)) for key, numbers in look.items()}


def since(now: Look, before: Look) -> Look:
    """Return what a server has done between two looks; if a counter fell, it was restarted and has begun at zero."""
    done = {key: now.get(key, Numbers()) - numbers for key, numbers in before.items()}
    return now if any(numbers.fell for numbers in done.values()) else now | done


def broken(found: Numbers, serving: Serving, *, over: bool) -> str | None:
    """Say which limit a version breaks, and by which number; None if it breaks none, or too little was seen of it.

    Before its time is over, chance must not explain it: whoever looks again and again at a version that keeps its
    limits sees it break one sooner or later. Rows come many in a request, so of them chance cannot be told, and what
    they say is judged at the end alone.

    Args:
        found: what it did.
        serving: the limits.
        over: whether no more will be seen of it.
    """
    if found.requests >= serving.min_requests:
        for limit in _limits(found, serving):
            if limit.broken and (over or limit.chance < LUCK):
                return limit.message
    if over and found.rows >= serving.min_requests and found.agreement < serving.min_agreement:
        return (
            f"it agrees with the champion on {format_percent(found.agreement)} of {found.rows:,} rows, and "
            f"serving.min_agreement is {format_percent(serving.min_agreement)}"
        )
    return None


def kept(found: Numbers, serving: Serving) -> Deployment.Observation:
    """Return what the deployment keeps of the numbers: those that there were enough of to judge by."""
    judged = found.requests >= serving.min_requests
    return Deployment.Observation(
        requests=found.requests,
        error_share=found.error_share if judged else None,
        milliseconds=found.percentile(1 - SLOWEST) if judged else None,
        rows=found.rows,
        agreement=found.agreement if found.rows >= serving.min_requests else None,
    )


@dataclass(frozen=True)
class _Limit:
    """How a version stands to a limit: so many of its requests were bad, of which a share is allowed."""

    bad: int
    of: int
    allowed: float
    broken: bool
    message: str

    @property
    def chance(self) -> float:
        """How likely so many bad ones, or more, are of a version that just keeps the limit, each a case by itself."""
        return float(bdtrc(self.bad - 1, self.of, self.allowed))


def _limits(found: Numbers, serving: Serving) -> list[_Limit]:
    timed, slow = sum(found.times.values()), found.percentile(1 - SLOWEST)
    return [
        _Limit(
            found.failed,
            found.requests,
            serving.max_error_share,
            found.error_share > serving.max_error_share,
            f"{format_percent(found.error_share)} of {found.requests:,} requests failed; serving.max_error_share is "
            f"{format_percent(serving.max_error_share)}",
        ),
        _Limit(
            found.slower(serving.max_milliseconds),
            timed,
            SLOWEST,
            slow > serving.max_milliseconds,
            f"{format_percent(SLOWEST)} of {timed:,} requests took {slow:.3g} ms or more; serving.max_milliseconds is "
            f"{serving.max_milliseconds:g}",
        ),
    ]


def _numbers(sample: Sample) -> list[tuple[str, Numbers]]:
    """Return what one line of /metrics says of a version, with the roles that it says it of."""
    labels = sample.labels
    if sample.name == "ct_answers_total" and labels["outcome"] == "ok":
        return [(labels["role"], Numbers(answered=int(sample.value)))]
    if sample.name == "ct_answers_total" and labels["outcome"] == "error":
        return [(labels["role"], Numbers(failed=int(sample.value)))]
    if sample.name == "ct_answer_seconds_bucket":
        return [(labels["role"], Numbers(times={float(labels["le"]): int(sample.value)}))]
    if sample.name == "ct_compared_rows_total":
        count = int(sample.value)
        compared = Numbers(agreed=count) if labels["agreed"] == "true" else Numbers(differed=count)
        return [("canary", compared), ("shadow", compared)]
    return []


def _apart(times: dict[float, int]) -> dict[float, int]:
    """Leave to each bucket only what fell into it: as Prometheus has them, each holds all smaller ones too."""
    bounds = sorted(times)
    smaller = [0, *(times[bound] for bound in bounds)]
    return {bound: times[bound] - less for bound, less in zip(bounds, smaller, strict=False)}
