"""The decision: nothing, a warning or a training, and why, in words.

What counts as moved is remembered between two examinations, and so is when a training was last asked for: in a tag of
the champion's version. A column that hovers at its limit does not change sides at every look, and a version has one
training asked for in a cool-down.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from continuous_training.documents import Value, percent
from continuous_training.monitor import performance
from continuous_training.monitor.asked import listed
from continuous_training.monitor.drift import PREDICTIONS
from continuous_training.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient

    from continuous_training.monitor.finding import Drift
    from continuous_training.monitor.performance import Measured
    from continuous_training.registry import Version
    from continuous_training.settings import Monitor

TAG = "ct.monitor"
METRIC = "the live metric"  # its name beside the columns'
ROOM = 4000  # characters of a tag for the names of what has moved

Verdict = Literal["none", "warn", "retrain", "not enough data"]


class State(Value):
    """What is remembered of a version: how often in a row each has been over its limit, and the last ping."""

    over: dict[str, int] = Field(default_factory=dict)
    pinged: datetime | None = None
    reason: str | None = None
    evidence: str | None = None

    @classmethod
    def of(cls, version: Version) -> State:
        """Read it from the version's tags; what cannot be read is forgotten."""
        try:
            return cls.model_validate_json(version.tags.get(TAG, "{}"))
        except ValidationError:
            return cls()

    def write(self, client: MlflowClient, version: Version) -> None:
        """Write it to the version; of more columns than a tag holds, the last ones are forgotten."""
        over = dict(self.over)
        while len(str(over)) > ROOM:
            over.popitem()
        client.set_model_version_tag(
            version.name, version.number, TAG, self.model_copy(update={"over": over}).model_dump_json(exclude_none=True)
        )

    def after(self, ratios: dict[str, float], limits: Monitor) -> State:
        """Return what is remembered after another look, of which these are the distances in parts of their limits.

        What was not measured this time stays as it was.
        """
        over = {name: times for name, times in self.over.items() if name not in ratios}
        for name, ratio in ratios.items():
            before = self.over.get(name, 0)
            if ratio >= 1:
                over[name] = min(before + 1, limits.confirmations)
            elif before >= limits.confirmations and ratio >= limits.leave:
                over[name] = before
        return self.model_copy(update={"over": over})

    def moved(self, limits: Monitor) -> set[str]:
        """Return what counts as moved."""
        return {name for name, times in self.over.items() if times >= limits.confirmations}

    def rests_until(self, limits: Monitor) -> datetime | None:
        """Return when the next training may be asked for."""
        return None if self.pinged is None else self.pinged + timedelta(hours=limits.cool_down_hours)


class Decision(Value):
    """What follows from an examination. `cause` is the same words whenever it is the same cause; `said` has numbers."""

    verdict: Verdict
    cause: str
    said: str


def fell(then: Measured | None, now: Measured | None) -> float:
    """Return how surely the metric fell, as a ratio like a column's: 1 or more if the whole interval is below zero."""
    if then is None or now is None or then.metric != now.metric or now.value >= then.value:
        return 0.0
    _, above = performance.change(then, now)
    drop = then.value - now.value
    return drop / (above + drop) if above + drop > 0 else 1.0


def decide(
    drifts: Sequence[Drift], then: Measured | None, now: Measured | None, *, moved: set[str], odd: int, limits: Monitor
) -> Decision:
    """Decide from what counts as moved, how many columns there are, and how many of them are odd."""
    columns = [one for one in drifts if one.name != PREDICTIONS]
    names = [one.name for one in columns if one.name in moved]
    answers, worse = PREDICTIONS in moved, METRIC in moved
    many = bool(columns) and len(names) >= limits.columns_share * len(columns)
    causes = []
    if names or answers:
        causes.append(f"{listed([*names, *([PREDICTIONS] if answers else [])])} moved")
    if worse and now:
        causes.append(f"the live {now.metric} fell")
    said = [_of_columns(names, len(columns), answers=answers)]
    if then and now:
        said.append(_of_the_metric(then, now, worse=worse))
    if odd:
        said.append(f"{counted(odd, 'column')} cannot be trusted: see the findings")
    verdict: Verdict = "none"
    if worse or many or (names and answers):
        verdict = "retrain"
    elif names or answers or odd:
        verdict = "warn"
    return Decision(verdict=verdict, cause="; ".join(causes), said="; ".join(said))


def _of_columns(names: list[str], of: int, *, answers: bool) -> str:
    if names:
        others = f", and so did {PREDICTIONS}" if answers else ""
        return f"{listed(names)} moved ({len(names)} of {counted(of, 'column')}){others}"
    return (
        f"{PREDICTIONS} moved, and none of {counted(of, 'column')}"
        if answers
        else f"no drift in {counted(of, 'column')}"
    )


def _of_the_metric(then: Measured, now: Measured, *, worse: bool) -> str:
    sure = f"{percent(now.confidence)} interval {now.low:.4f} to {now.high:.4f}, from {now.rows:,} labels"
    if worse:
        return f"the live {now.metric} fell from {then.value:.4f} to {now.value:.4f} ({sure})"
    return f"the live {now.metric} is {now.value:.4f} and was {then.value:.4f} ({sure}), which is not surely less"
