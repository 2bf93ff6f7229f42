"""The decision: no action, a warning or a training, with the reason as text.

A training follows if the live metric dropped significantly, if a sufficient share of the columns drifted, or if a
column and the predictions drifted. Data quality problems are only a warning: a model would learn them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from continuous_training.documents import Value
from continuous_training.formatting import format_percent, pluralize
from continuous_training.formatting.scorers import format_score, is_error, plain_name
from continuous_training.monitoring.drift import is_of_predictions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.monitoring.drift import ColumnDrift
    from continuous_training.monitoring.performance import MetricDrop, MetricEstimate
    from continuous_training.settings import Monitor

LIVE_METRIC = "the live metric"  # its name among the columns

Verdict = Literal["none", "warn", "retrain", "not enough data"]


class Decision(Value):
    """What follows from a check.

    `cause` has no numbers, so that the same cause is the same text each time; `message` has the numbers.
    """

    verdict: Verdict
    cause: str
    message: str


def decide(
    drifts: Sequence[ColumnDrift],
    baseline: MetricEstimate | None,
    current: MetricEstimate | None,
    drop: MetricDrop | None,
    *,
    drifted: set[str],
    invalid_columns: int,
    limits: Monitor,
) -> Decision:
    """Return the decision.

    Args:
        drifts: all measured columns.
        baseline: the metric at promotion, if it was computed.
        current: the live metric, if it could be computed.
        drop: the drop from the baseline to the live metric, if both exist.
        drifted: the names of what counts as drifted, after confirmations: columns, predictions, LIVE_METRIC.
        invalid_columns: the number of columns with data quality warnings.
        limits: the section `monitor` of training.yaml.
    """
    columns = [drift for drift in drifts if not is_of_predictions(drift.name)]
    names = [drift.name for drift in columns if drift.name in drifted]
    predictions, metric = sorted(filter(is_of_predictions, drifted)), LIVE_METRIC in drifted
    many = bool(columns) and len(names) >= limits.columns_share * len(columns)
    causes = []
    if names or predictions:
        causes.append(f"{_join_names([*names, *predictions])} drifted")
    if metric and current:
        causes.append(f"the live {plain_name(current.metric)} {_worsened(current)}")
    messages = [_describe_columns(names, len(columns), predictions)]
    if baseline and current and drop:
        messages.append(_describe_metric(baseline, current, drop, limits.window_days, dropped=metric))
    if invalid_columns:
        messages.append(f"{pluralize(invalid_columns, 'column')} failed the quality checks: see the findings")
    verdict: Verdict = "none"
    if metric or many or (names and predictions):
        verdict = "retrain"
    elif names or predictions or invalid_columns:
        verdict = "warn"
    return Decision(verdict=verdict, cause="; ".join(causes), message="; ".join(messages))


def _describe_columns(names: list[str], total: int, predictions: list[str]) -> str:
    if names:
        also = f", and so did {_join_names(predictions)}" if predictions else ""
        return f"{_join_names(names)} drifted ({len(names)} of {pluralize(total, 'column')}){also}"
    return (
        f"{_join_names(predictions)} drifted, no column did"
        if predictions
        else f"no drift in {pluralize(total, 'column')}"
    )


def _describe_metric(
    baseline: MetricEstimate, current: MetricEstimate, drop: MetricDrop, window_days: float, *, dropped: bool
) -> str:
    def text(value: float) -> str:
        return format_score(value, current.metric)

    low, high = (current.high, current.low) if is_error(current.metric) else (current.low, current.high)
    interval = f"{format_percent(current.confidence)} interval {text(low)} to {text(high)}"
    interval += f", from {current.rows:,} labels"
    over = f" over {len(current.windows) * window_days:g} days" if current.windows else ""
    name = f"the live {plain_name(current.metric)}"
    before, now = text(baseline.value), text(current.value)
    if not dropped:
        change = "rise" if is_error(current.metric) else "drop"
        return f"{name} is {now}{over}, it was {before} ({interval}): no significant {change}"
    worsened = f"{name} {_worsened(current)} from {before}"
    if drop.windows < len(current.windows):
        newest = f"{text(current.windows[-1])} in the last {window_days:g} days"
        return f"{worsened} to {newest} (it was {now}{over}: {interval})"
    return f"{worsened} to {now}{over} ({interval})"


def _worsened(estimate: MetricEstimate) -> str:
    return "rose" if is_error(estimate.metric) else "dropped"


def _join_names(names: Sequence[str]) -> str:
    """Return at most five names in alphabetical order, so that the same columns are the same text each time."""
    first = sorted(names)[:5]
    if len(names) > len(first):
        return f"{', '.join(first)} and others"
    return " and ".join(filter(None, (", ".join(first[:-1]), *first[-1:])))
