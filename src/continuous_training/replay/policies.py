"""The policies of a replay and their comparison.

The policies: never retrain; retrain monthly and always promote; retrain monthly and let the gate decide; retrain on
drift. Hindsight, the best model so far in each month, is the upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from continuous_training.comparison import bootstrap
from continuous_training.documents import Value
from continuous_training.errors import UserError
from continuous_training.replay.month_results import Difference, RunResult, WeeklyCheck

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from continuous_training.replay.month_results import DriftMonth, Evaluation, MonthResult
    from continuous_training.settings import Compare


@dataclass(frozen=True)
class Champions:
    """The champion of each policy after a run, by name; None while there is none.

    `alternative` is what the gate decided against: the replaced champion or the rejected candidate.
    """

    never: str | None
    always: str | None
    gate: str | None
    alternative: str | None


class Scores(Value):
    """The score of each policy; hindsight is that of the best model so far, which no policy could have chosen."""

    never: float
    always: float
    gate: float
    drift: float | None = None
    hindsight: float


class Trainings(Value):
    """The number of trainings of each policy."""

    never: int
    always: int
    gate: int
    drift: int | None = None
    hindsight: int


class MonthRow(Value):
    """A month of the result: its run, the score of each policy, and the gain of the decision, negative if it was wrong.

    `checks` are those of the policy that retrains on drift.
    """

    run: RunResult
    rows: int | None = None
    scores: Scores | None = None
    gain: Difference | None = None
    checks: list[WeeklyCheck] = Field(default_factory=list)


class ReplayResult(Value):
    """The result of a replay: its months, the policies' mean scores, and the gate's advantage over each policy."""

    model: str
    metric: str
    confidence: float
    resamples: int
    resample_by: str
    months: list[MonthRow]
    means: Scores
    trainings: Trainings
    over_never: Difference
    over_always: Difference
    over_drift: Difference | None = None

    @property
    def policies(self) -> list[str]:
        """The names of the simulated policies."""
        return [name for name, mean in self.means if mean is not None]

    @property
    def scored_months(self) -> list[tuple[MonthRow, Scores]]:
        """The months with a champion, and their scores."""
        return [(month, month.scores) for month in self.months if month.scores]

    @property
    def headroom(self) -> float:
        """The mean of hindsight less that of the newest models: the most that a gate can gain."""
        return self.means.hindsight - self.means.always


def follow_policies(runs: Sequence[RunResult]) -> list[Champions]:
    """Return the champions after each run: never keeps the first champion, always promotes each candidate."""
    never: str | None = None
    always: str | None = None
    gate: str | None = None
    champions = []
    for run in runs:
        candidate = run.candidate.run_id if run.candidate else None
        before, gate = gate, run.champion
        never, always = never or gate, candidate or always
        champions.append(Champions(never, always, gate, before if run.decision == "promoted" else candidate))
    return champions


def score_months(months: Sequence[MonthResult], limits: Compare) -> list[MonthRow]:
    """Return the score of each policy in each month, and the gain of the gate's decision."""
    rows = []
    for month, champions in zip(months, _champions(months), strict=True):
        evaluation = month.evaluation
        if evaluation is None or champions.gate is None:
            rows.append(MonthRow(run=month.run))
            continue
        scores = {name: evaluation.scores[str(getattr(champions, name))] for name in ("never", "always", "gate")}
        gain = None
        if champions.alternative:
            value = scores["gate"] - evaluation.scores[champions.alternative]
            resamples = _resamples(evaluation, champions.gate, champions.alternative, limits)
            gain = _difference(value, resamples, limits.confidence)
        drift = month.drift.score if month.drift else None
        all_scores = Scores(**scores, drift=drift, hindsight=max(evaluation.scores.values()))
        rows.append(MonthRow(run=month.run, rows=evaluation.rows, scores=all_scores, gain=gain, checks=month.checks))
    return rows


def compare_policies(model: str, months: Sequence[MonthResult], limits: Compare) -> ReplayResult:
    """Compare the policies in each month and on average.

    The interval of a mean is computed from the means of the months' resamples; the months are resampled independently.

    Raises:
        UserError: no month had a champion.
    """
    rows = score_months(months, limits)
    scores = [row.scores for row in rows if row.scores]
    if not scores:
        raise UserError(f"no month had a champion to evaluate: {rows[-1].run.message}")
    columns = {name: [getattr(month, name) for month in scores] for name in Scores.model_fields}
    means = Scores(**{name: float(np.mean(column)) for name, column in columns.items() if None not in column})
    over = {name: _advantage(name, months, means, limits) for name in ("never", "always")}
    return ReplayResult(
        model=model,
        metric=limits.metric,
        confidence=limits.confidence,
        resamples=limits.resamples,
        resample_by=limits.resample_by,
        months=rows,
        means=means,
        trainings=_count_trainings(months, with_drift=means.drift is not None),
        over_never=over["never"],
        over_always=over["always"],
        over_drift=_advantage("drift", months, means, limits) if means.drift is not None else None,
    )


def _champions(months: Sequence[MonthResult]) -> list[Champions]:
    return follow_policies([month.run for month in months])


def _count_trainings(months: Sequence[MonthResult], *, with_drift: bool) -> Trainings:
    """Count the trainings of each policy; until the first champion, all policies are the same."""
    monthly = sum(month.run.candidate is not None for month in months)
    before = sum(month.run.candidate is not None for month in months if month.evaluation is None)
    never = before + 1
    checks = [check for month in months for check in month.checks]
    drift = never + sum(check.run is not None and check.run.candidate is not None for check in checks)
    return Trainings(never=never, always=monthly, gate=monthly, drift=drift if with_drift else None, hindsight=monthly)


def _advantage(policy: str, months: Sequence[MonthResult], means: Scores, limits: Compare) -> Difference:
    """Return the mean advantage of the gate over a policy."""
    random = np.random.default_rng(0)
    resamples = [
        random.permutation(_policy_resamples(policy, month.evaluation, month.drift, champions, limits))
        for month, champions in zip(months, _champions(months), strict=True)
        if month.evaluation  # all months were resampled with the same seed: the shuffle makes them independent
    ]
    return _difference(means.gate - getattr(means, policy), np.mean(resamples, axis=0), limits.confidence)


def _policy_resamples(
    policy: str, evaluation: Evaluation, drift: DriftMonth | None, champions: Champions, limits: Compare
) -> NDArray[np.float64]:
    """Return the advantage of the gate over a policy in a month on each resample, of shape (resamples,)."""
    if policy == "drift" and drift:
        return np.array(drift.resampled_differences, dtype=np.float64)  # None becomes NaN
    return _resamples(evaluation, str(champions.gate), str(getattr(champions, policy)), limits)


def _resamples(evaluation: Evaluation, champion: str, other: str, limits: Compare) -> NDArray[np.float64]:
    """Return the champion's advantage over another model in a month on each resample, of shape (resamples,)."""
    if other == champion:
        return np.zeros(limits.resamples)
    return np.array(evaluation.resampled_differences[other], dtype=np.float64)  # None becomes NaN


def _difference(value: float, resamples: NDArray[np.float64], confidence: float) -> Difference:
    low, high = bootstrap.interval(resamples, confidence) or (None, None)
    return Difference(value=value, low=low, high=high)
