"""The result of a replay as sentences."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from continuous_training.formatting import pluralize
from continuous_training.formatting.scorers import format_improvement, format_score, plain_name
from continuous_training.replay.months import MONTH_FORMAT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from continuous_training.replay.month_results import Difference, MonthResult, WeeklyCheck
    from continuous_training.replay.policies import MonthRow, ReplayResult

ROUNDED_TO_ZERO = 0.00005  # smaller values are 0 with four decimals
NEVER, ALWAYS, DRIFT = "never retraining", "always promoting the newest", "retraining on drift"
DECISIONS = {"promoted": "promoted", "rejected": "rejected", "none": "no candidate"}
COMPARISONS = {
    "better": "is significantly better than",
    "worse": "is significantly worse than",
    "uncertain": "ties with",
    "equal": "equals",
}
EFFECTS = {
    "better": "significantly gained",
    "worse": "significantly cost",
    "uncertain": "had no significant effect",
    "equal": "had no effect",
}


def format_month(month: str) -> str:
    """Return a month with its name."""
    return f"{datetime.strptime(month, MONTH_FORMAT):%B %Y}"


def format_difference(difference: Difference) -> str:
    """Return a difference with its interval; what is negligible beside the interval is written as 0."""
    if difference.low is None or difference.high is None:
        return f"{format_improvement(difference.value)} (no interval)"
    largest = max(-difference.low, difference.high)
    value, low, high = (
        f"{0:+.4f}" if abs(number) < ROUNDED_TO_ZERO <= largest else format_improvement(number)
        for number in (difference.value, difference.low, difference.high)
    )
    return f"{value} ({low} to {high})"


def describe_month(month: MonthRow, metric: str) -> str:
    """Return one line: the decision on the fresh rows, and the scores in the following month."""
    run = month.run
    fresh = f", fresh {format_difference(run.fresh_difference)}" if run.fresh_difference else ""
    reason = f", {run.message}" if run.decision == "none" else ""
    decision = DECISIONS[run.decision]
    if month.scores is None:
        return f"{run.month}: {decision}{fresh}{reason}; no champion to evaluate"
    scores = f"{format_month(run.month).split()[0]} {format_score(month.scores.gate, metric)}"
    if month.gain:
        other = "the old champion" if run.decision == "promoted" else "the candidate"
        scores += f", {other} would have had {format_score(month.scores.gate - month.gain.value, metric)}"
    return f"{run.month}: {decision}{fresh}{reason}; {scores}"


def describe_drift_month(month: MonthResult, metric: str) -> str:
    """Return one line: the score and the runs of the policy that retrains on drift in a month."""
    score = format_score(month.drift.score, metric) if month.drift else "–"
    return f"{month.run.month}: {DRIFT} {score}; {'; '.join(describe_runs(month.checks)) or 'no training requested'}"


def describe_runs(checks: Sequence[WeeklyCheck]) -> list[str]:
    """Return the date and the result of each run that a check requested."""
    return [
        f"{check.end:%Y-%m-%d} {DECISIONS[check.run.decision]}"
        + (f" ({check.run.message})" if check.run.decision == "none" else "")
        for check in checks
        if check.run
    ]


def headline(result: ReplayResult) -> str:
    """Return whether the gate is worth having, in one sentence."""
    never, always = result.over_never.outcome, result.over_always.outcome
    if COMPARISONS[never] == COMPARISONS[always]:
        return f"The gate {COMPARISONS[never]} both policies"
    return f"The gate {COMPARISONS[never]} {NEVER} and {COMPARISONS[always]} {ALWAYS}"


def summarize(result: ReplayResult) -> list[str]:
    """Return sentences: the gate against each policy, the effect of its decisions, and the possible gain."""
    return [
        _compare(result, result.over_always, ALWAYS),
        _compare(result, result.over_never, NEVER),
        *_summarize_drift(result),
        *_summarize_decisions(result),
        _summarize_headroom(result),
    ]


def _compare(result: ReplayResult, difference: Difference, policy: str) -> str:
    months = len(result.scored_months)
    period = f"on average over {months} months" if months > 1 else "in one month"
    if difference.outcome == "equal":
        return f"The gate {COMPARISONS['equal']} {policy}: the score was the same in every month."
    comparison = f"The gate {COMPARISONS[difference.outcome]} {policy}"
    return (
        f"{comparison}: {format_difference(difference)} {plain_name(result.metric)} {period}, "
        f"with {result.confidence:.0%} confidence."
    )


def _summarize_drift(result: ReplayResult) -> list[str]:
    """Compare the policy that retrains on drift in score and number of trainings, if it was simulated."""
    if result.over_drift is None or result.trainings.drift is None:
        return []
    requested = sum(check.run is not None for month in result.months for check in month.checks)
    checks = sum(len(month.checks) for month in result.months)
    trainings = f"The monthly schedule trained {pluralize(result.trainings.gate, 'model')}"
    trainings += f", {DRIFT} {result.trainings.drift}"
    return [
        _compare(result, result.over_drift, DRIFT),
        f"{trainings}: {requested} of {checks} weekly checks requested a training.",
    ]


def _summarize_decisions(result: ReplayResult) -> list[str]:
    """Count the effects of the decisions between a candidate and a champion."""
    sentences = []
    for decision, noun in (("promoted", "promotion"), ("rejected", "rejection")):
        gains = [month.gain for month in result.months if month.gain and month.run.decision == decision]
        if gains:
            effects = _count_effects(gain.outcome for gain in gains)
            sentences.append(f"Of {pluralize(len(gains), noun)} against a champion, {effects}.")
    return sentences


def _count_effects(outcomes: Iterable[str]) -> str:
    values = list(outcomes)
    return ", ".join(f"{values.count(outcome)} {text}" for outcome, text in EFFECTS.items() if outcome in values)


def _summarize_headroom(result: ReplayResult) -> str:
    """Return how much any gate could have gained at most: the argument for or against having one."""
    if not result.headroom:
        return f"The newest model was the best in every month: no gate could have gained anything over {ALWAYS}."
    return (
        f"The best model so far, chosen for each month in hindsight, would have had "
        f"{format_improvement(result.headroom)} over {ALWAYS}: no gate could have gained more."
    )
