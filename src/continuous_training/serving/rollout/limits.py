"""The limits of training.yaml's section `serving`: whether a version's counters exceed them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.special import bdtrc

from continuous_training.documents import Deployment
from continuous_training.formatting import format_percent

if TYPE_CHECKING:
    from continuous_training.serving.rollout.counters import Counters
    from continuous_training.settings import Serving

SLOW_SHARE = 0.01  # the share of requests that may take longer than max_milliseconds
SIGNIFICANCE = 0.001  # the probability that a version at its limit is refused in one check before the end


def find_violation(counters: Counters, serving: Serving, *, final: bool) -> str | None:
    """Describe the first limit that a version exceeds; None if it exceeds none, or there are too few requests.

    Before the end, a violation must be statistically significant: in repeated checks, chance alone makes a good version
    exceed a limit sooner or later. The rows of a request are not independent, so their agreement has no such test, and
    is checked at the end only.

    Args:
        counters: of the version.
        serving: the limits.
        final: whether this is the last check.
    """
    if counters.requests >= serving.min_requests:
        for check in _check_limits(counters, serving):
            if check.exceeded and (final or check.p_value < SIGNIFICANCE):
                return check.message
    if final and counters.rows >= serving.min_requests and counters.agreement < serving.min_agreement:
        return (
            f"it agrees with the champion on {format_percent(counters.agreement)} of {counters.rows:,} rows; "
            f"serving.min_agreement is {format_percent(serving.min_agreement)}"
        )
    return None


def binomial_p_value(bad: int, total: int, allowed_share: float) -> float:
    """Return the probability of so many bad requests or more if this share is bad: the one-sided binomial test."""
    return float(bdtrc(bad - 1, total, allowed_share))


def summarize(counters: Counters, serving: Serving) -> Deployment.Observation:
    """Return the figures for the deployment's document, without those that are based on too few requests or rows."""
    enough = counters.requests >= serving.min_requests
    return Deployment.Observation(
        requests=counters.requests,
        error_share=counters.error_share if enough else None,
        milliseconds=counters.percentile(1 - SLOW_SHARE) if enough else None,
        rows=counters.rows,
        agreement=counters.agreement if counters.rows >= serving.min_requests else None,
    )


@dataclass(frozen=True)
class _LimitCheck:
    """A limit on the share of bad requests."""

    bad: int
    total: int
    allowed_share: float
    exceeded: bool
    message: str

    @property
    def p_value(self) -> float:
        """The probability of so many bad requests or more for a version at its limit."""
        return binomial_p_value(self.bad, self.total, self.allowed_share)


def _check_limits(counters: Counters, serving: Serving) -> list[_LimitCheck]:
    total, milliseconds = sum(counters.durations.values()), counters.percentile(1 - SLOW_SHARE)
    return [
        _LimitCheck(
            counters.failures,
            counters.requests,
            serving.max_error_share,
            counters.error_share > serving.max_error_share,
            f"{format_percent(counters.error_share)} of {counters.requests:,} requests failed; "
            f"serving.max_error_share is {format_percent(serving.max_error_share)}",
        ),
        _LimitCheck(
            counters.count_slower(serving.max_milliseconds),
            total,
            SLOW_SHARE,
            milliseconds > serving.max_milliseconds,
            f"{format_percent(SLOW_SHARE)} of {total:,} requests took {milliseconds:.3g} ms or longer; "
            f"serving.max_milliseconds is {serving.max_milliseconds:g}",
        ),
    ]
