"""The policies of a replay held against each other.

Never retrain; train every month, and always promote the newest or let the gate choose; retrain on drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from continuous_training.comparison import bootstrap
from continuous_training.documents import Value
from continuous_training.errors import UserError
from continuous_training.replay.months import Difference, Made, Week

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from continuous_training.replay.months import Judged, Month, OnDrift
    from continuous_training.settings import Compare


@dataclass(frozen=True)
class Production:
    """The model that each policy has in production after a run, by its MLflow run; None while it has none.

    `other` is what the gate decided against: the champion that was replaced, or the candidate that was rejected.
    """

    never: str | None
    always: str | None
    gate: str | None
    other: str | None


class Scores(Value):
    """What each policy scored; hindsight is the best of all months' models so far, which nobody could have chosen."""

    never: float
    always: float
    gate: float
    drift: float | None = None
    hindsight: float


class Trainings(Value):
    """How often each policy trained."""

    never: int
    always: int
    gate: int
    drift: int | None = None
    hindsight: int


class Line(Value):
    """A month of the result: what was decided, what each policy scored, and what the decision gained or cost.

    `weeks` are those of the policy that retrains on drift.
    """

    made: Made
    rows: int | None = None
    scores: Scores | None = None
    gain: Difference | None = None
    weeks: list[Week] = Field(default_factory=list)


class Result(Value):
    """The whole replay: its months, the policies' means over them, and what the gate is better by."""

    model: str
    metric: str
    confidence: float
    resamples: int
    resample_by: str
    lines: list[Line]
    means: Scores
    trainings: Trainings
    over_never: Difference
    over_always: Difference
    over_drift: Difference | None = None

    @property
    def policies(self) -> list[str]:
        """The policies that were followed, as their columns are called."""
        return [name for name, mean in self.means if mean is not None]

    @property
    def judged(self) -> list[tuple[Line, Scores]]:
        """The months in which a champion was judged."""
        return [(line, line.scores) for line in self.lines if line.scores]

    @property
    def room(self) -> float:
        """How much more than the newest model the best of each month would have scored: the most a gate can gain."""
        return self.means.hindsight - self.means.always


def productions(made: Sequence[Made]) -> list[Production]:
    """Follow the policies through the months: never keeps the first champion, always takes each candidate."""
    never: str | None = None
    always: str | None = None
    gate: str | None = None
    found = []
    for one in made:
        candidate = one.candidate.run_id if one.candidate else None
        before, gate = gate, one.champion
        never, always = never or gate, candidate or always
        found.append(Production(never, always, gate, before if one.decision == "promoted" else candidate))
    return found


def lines(months: Sequence[Month], limits: Compare) -> list[Line]:
    """Say what each policy scored in each month, and what the gate's decision gained or cost."""
    found = []
    for month, chosen in zip(months, _productions(months), strict=True):
        judged = month.judged
        if judged is None or chosen.gate is None:
            found.append(Line(made=month.made))
            continue
        scores = {policy: judged.scores[str(getattr(chosen, policy))] for policy in ("never", "always", "gate")}
        gain = None
        if chosen.other:
            value = scores["gate"] - judged.scores[chosen.other]
            gain = _difference(value, _draws(judged, chosen.gate, chosen.other, limits), limits.confidence)
        drifted = month.drifted.score if month.drifted else None
        whole = Scores(**scores, drift=drifted, hindsight=max(judged.scores.values()))
        found.append(Line(made=month.made, rows=judged.rows, scores=whole, gain=gain, weeks=month.weeks))
    return found


def compare(model: str, months: Sequence[Month], limits: Compare) -> Result:
    """Hold the policies against each other, month by month and on average.

    The interval of a mean comes from the means of the months' resamples, each month resampled by itself.

    Raises:
        UserError: no month had a champion.
    """
    told = lines(months, limits)
    scored = [line.scores for line in told if line.scores]
    if not scored:
        raise UserError(f"no month had a champion to judge, for {told[-1].made.message}")
    columns = {policy: [getattr(one, policy) for one in scored] for policy in Scores.model_fields}
    means = Scores(**{policy: float(np.mean(column)) for policy, column in columns.items() if None not in column})
    over = {policy: _over(policy, months, means, limits) for policy in ("never", "always")}
    return Result(
        model=model,
        metric=limits.metric,
        confidence=limits.confidence,
        resamples=limits.resamples,
        resample_by=limits.resample_by,
        lines=told,
        means=means,
        trainings=_trainings(months, on_drift=means.drift is not None),
        over_never=over["never"],
        over_always=over["always"],
        over_drift=_over("drift", months, means, limits) if means.drift is not None else None,
    )


def _productions(months: Sequence[Month]) -> list[Production]:
    return productions([month.made for month in months])


def _trainings(months: Sequence[Month], *, on_drift: bool) -> Trainings:
    """Count the models that each policy made: until the first champion, all policies are one."""
    every = sum(month.made.candidate is not None for month in months)
    before = sum(month.made.candidate is not None for month in months if month.judged is None)
    never = before + 1
    weeks = [week for month in months for week in month.weeks]
    drifted = never + sum(week.made is not None and week.made.candidate is not None for week in weeks)
    return Trainings(never=never, always=every, gate=every, drift=drifted if on_drift else None, hindsight=every)


def _over(policy: str, months: Sequence[Month], means: Scores, limits: Compare) -> Difference:
    """Return how much better than a policy the gate is on average."""
    random = np.random.default_rng(0)
    drawn = [
        random.permutation(_drawn(policy, month.judged, month.drifted, chosen, limits))
        for month, chosen in zip(months, _productions(months), strict=True)
        if month.judged  # the same numbers draw the rows of every month, so without the shuffle months would agree
    ]
    return _difference(means.gate - getattr(means, policy), np.mean(drawn, axis=0), limits.confidence)


def _drawn(
    policy: str, judged: Judged, drifted: OnDrift | None, chosen: Production, limits: Compare
) -> NDArray[np.float64]:
    """Return how much better than a policy the gate was in a month, on each resample."""
    if policy == "drift" and drifted:
        return np.array(drifted.draws, dtype=np.float64)  # None is NaN
    return _draws(judged, str(chosen.gate), str(getattr(chosen, policy)), limits)


def _draws(judged: Judged, champion: str, other: str, limits: Compare) -> NDArray[np.float64]:
    """Return how much better than another model the champion was in a month, on each resample."""
    if other == champion:
        return np.zeros(limits.resamples)
    return np.array(judged.draws[other], dtype=np.float64)  # None is NaN


def _difference(value: float, draws: NDArray[np.float64], confidence: float) -> Difference:
    low, high = bootstrap.interval(draws, confidence) or (None, None)
    return Difference(value=value, low=low, high=high)
