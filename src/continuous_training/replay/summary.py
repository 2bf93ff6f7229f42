"""The result of a replay in words, from its numbers alone."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from continuous_training.replay.months import PATTERN
from continuous_training.reports.formatting import format_number, pluralize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from continuous_training.replay.months import Difference, Month, Week
    from continuous_training.replay.policies import Line, Result

TINY = 0.00005  # of which four decimals show nothing
NEVER, ALWAYS, DRIFT = "never retraining", "always promoting the newest", "retraining on drift"
DECIDED = {"promoted": "promoted", "rejected": "rejected", "none": "no candidate"}
BEATS = {"better": "surely beats", "worse": "surely loses to", "unsure": "ties with", "equal": "is the same as"}
GAINED = {
    "better": "surely gained",
    "worse": "surely cost",
    "unsure": "could have gone either way",
    "equal": "changed nothing",
}


def day(month: str) -> str:
    """Write a month's name."""
    return f"{datetime.strptime(month, PATTERN):%B %Y}"


def difference(found: Difference) -> str:
    """Write a difference with its interval; what is next to nothing beside the others is nothing."""
    if found.low is None or found.high is None:
        return f"{format_number(found.value, signed=True)} (no interval)"
    value, low, high = (
        f"{0:+.4f}" if abs(one) < TINY <= max(-found.low, found.high) else format_number(one, signed=True)
        for one in (found.value, found.low, found.high)
    )
    return f"{value} ({low} to {high})"


def told(line: Line) -> str:
    """Tell a month in one line: what was decided on the fresh rows, and what the month then said of it."""
    made = line.made
    fresh = f", fresh {difference(made.fresh)}" if made.fresh else ""
    why = f", {made.message}" if made.decision == "none" else ""
    decided = DECIDED[made.decision]
    if line.scores is None:
        return f"{made.month}: {decided}{fresh}{why}; no champion to judge"
    then = f"{day(made.month).split()[0]} {format_number(line.scores.gate)}"
    if line.gain:
        other = "the old champion" if made.decision == "promoted" else "the candidate"
        then += f", {other} would have had {format_number(line.scores.gate - line.gain.value)}"
    return f"{made.month}: {decided}{fresh}{why}; {then}"


def told_of_drift(month: Month) -> str:
    """Tell what the policy that retrains on drift did in a month, and what its models scored."""
    score = f"{month.drifted.score:.4f}" if month.drifted else "–"
    return f"{month.made.month}: {DRIFT} {score}; {'; '.join(runs(month.weeks)) or 'no training was asked for'}"


def runs(weeks: Sequence[Week]) -> list[str]:
    """Say when a training was asked for, and what became of it."""
    return [
        f"{week.end:%Y-%m-%d} {DECIDED[week.made.decision]}"
        + (f" ({week.made.message})" if week.made.decision == "none" else "")
        for week in weeks
        if week.made
    ]


def headline(result: Result) -> str:
    """Say in a sentence whether the gate is worth having."""
    never, always = result.over_never.found, result.over_always.found
    if BEATS[never] == BEATS[always]:
        return f"The gate {BEATS[never]} both policies"
    return f"The gate {BEATS[never]} {NEVER} and {BEATS[always]} {ALWAYS}"


def sentences(result: Result) -> list[str]:
    """Say whether the gate beats each policy, how its decisions turned out, and how much there was to gain."""
    return [
        _over(result, result.over_always, ALWAYS),
        _over(result, result.over_never, NEVER),
        *_on_drift(result),
        *_decisions(result),
        _room(result),
    ]


def _over(result: Result, found: Difference, policy: str) -> str:
    months = len(result.judged)
    on = f"on average over {months} months" if months > 1 else "in one month"
    if found.found == "equal":
        return f"The gate {BEATS['equal']} {policy}: it scored the same in every month."
    message = f"The gate {BEATS[found.found]} {policy}: {difference(found)} {result.metric} {on}"
    return f"{message}, with {result.confidence:.0%} confidence."


def _on_drift(result: Result) -> list[str]:
    """Say what the fourth policy is worth, and what it spends, if it was followed."""
    if result.over_drift is None or result.trainings.drift is None:
        return []
    asked = sum(week.made is not None for line in result.lines for week in line.weeks)
    looks = sum(len(line.weeks) for line in result.lines)
    spent = (
        f"The monthly schedule trained {pluralize(result.trainings.gate, 'model')}, {DRIFT} {result.trainings.drift}"
    )
    return [_over(result, result.over_drift, DRIFT), f"{spent}: {asked} of {looks} weekly looks asked for one."]


def _decisions(result: Result) -> list[str]:
    """Count what the decisions against a champion gained or cost."""
    message = []
    for decision, noun in (("promoted", "promotion"), ("rejected", "rejection")):
        gains = [line.gain for line in result.lines if line.gain and line.made.decision == decision]
        if gains:
            message.append(
                f"Of {pluralize(len(gains), noun)} against a champion, {_listed(gain.found for gain in gains)}."
            )
    return message


def _listed(found: Iterable[str]) -> str:
    every = list(found)
    return ", ".join(f"{every.count(kind)} {words}" for kind, words in GAINED.items() if kind in every)


def _room(result: Result) -> str:
    """Say how much any gate could have gained at most: that argues for or against having one."""
    if not result.room:
        return "The newest model was the best in every month: no gate could have gained anything over promoting it."
    more = format_number(result.room, signed=True)
    return (
        f"The best of all models made so far, chosen for each month in hindsight, would have had {more} "
        f"over {ALWAYS}: no gate could have gained more than that."
    )
