"""The decision: nothing, a warning or a training, and why, in words.

A training follows when the live metric has surely fallen, when a good part of the columns has moved, or when one has
and the predictions with it. What is wrong with the data is a warning: training on it would teach what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from continuous_training.documents import Value, format_percent
from continuous_training.monitoring.asked import listed
from continuous_training.monitoring.drift import PREDICTIONS
from continuous_training.reports.formatting import pluralize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.monitoring.finding import Drift
    from continuous_training.monitoring.performance import Fall, Measured
    from continuous_training.settings import Monitor

METRIC = "the live metric"  # its name beside the columns'

Verdict = Literal["none", "warn", "retrain", "not enough data"]


class Decision(Value):
    """What follows from an examination. `cause` is the same words whenever it is the same cause; `said` has numbers."""

    verdict: Verdict
    cause: str
    message: str


def decide(
    drifts: Sequence[Drift],
    then: Measured | None,
    now: Measured | None,
    fall: Fall | None,
    *,
    moved: set[str],
    odd: int,
    limits: Monitor,
) -> Decision:
    """Decide from what counts as moved, how many columns there are, and how many of them are odd.

    `fall` is that from then to now, if both were measured.
    """
    columns = [one for one in drifts if one.name != PREDICTIONS]
    names = [one.name for one in columns if one.name in moved]
    answers, worse = PREDICTIONS in moved, METRIC in moved
    many = bool(columns) and len(names) >= limits.columns_share * len(columns)
    causes = []
    if names or answers:
        causes.append(f"{listed([*names, *([PREDICTIONS] if answers else [])])} moved")
    if worse and now:
        causes.append(f"the live {now.metric} fell")
    message = [_of_columns(names, len(columns), answers=answers)]
    if then and now and fall:
        message.append(_of_the_metric(then, now, fall, limits.window_days, worse=worse))
    if odd:
        message.append(f"{pluralize(odd, 'column')} cannot be trusted: see the findings")
    verdict: Verdict = "none"
    if worse or many or (names and answers):
        verdict = "retrain"
    elif names or answers or odd:
        verdict = "warn"
    return Decision(verdict=verdict, cause="; ".join(causes), message="; ".join(message))


def _of_columns(names: list[str], of: int, *, answers: bool) -> str:
    if names:
        others = f", and so did {PREDICTIONS}" if answers else ""
        return f"{listed(names)} moved ({len(names)} of {pluralize(of, 'column')}){others}"
    return f"{PREDICTIONS} moved, no column did" if answers else f"no drift in {pluralize(of, 'column')}"


def _of_the_metric(then: Measured, now: Measured, fall: Fall, days: float, *, worse: bool) -> str:
    sure = f"{format_percent(now.confidence)} interval {now.low:.4f} to {now.high:.4f}, from {now.rows:,} labels"
    over = f" over {len(now.windows) * days:g} days" if now.windows else ""
    if not worse:
        was = f"is {now.value:.4f}{over} and was {then.value:.4f}"
        return f"the live {now.metric} {was} ({sure}), which is not surely less"
    if fall.windows < len(now.windows):
        newest = f"fell from {then.value:.4f} to {now.windows[-1]:.4f} in the last {days:g} days"
        return f"the live {now.metric} {newest} (it was {now.value:.4f}{over}: {sure})"
    return f"the live {now.metric} fell from {then.value:.4f} to {now.value:.4f}{over} ({sure})"
