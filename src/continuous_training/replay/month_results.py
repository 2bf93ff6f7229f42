"""The results of a month: its run, the scores of the models in it, and the checks of the drift policy.

A finished month is stored as one JSON file in the replay's workspace.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from continuous_training.documents import Value
from continuous_training.replay.months import MONTH_FORMAT

REFIT = "+refit"  # after the MLflow run of a candidate: its refit


class Difference(Value):
    """The difference of two models or policies in the metric, with its interval if the resamples have one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def outcome(self) -> Literal["better", "worse", "uncertain", "equal"]:
        """Where the interval lies relative to zero; `equal` if all resamples are equal."""
        if self.low is None or self.high is None:
            return "uncertain"
        if self.low > 0:
            return "better"
        if self.high < 0:
            return "worse"
        return "uncertain" if self.low or self.high or self.value else "equal"


class TrainedModel(Value):
    """A candidate or a refit of it: the candidate's MLflow run, and the location of its files."""

    run_id: str
    uri: str
    is_refit: bool = False

    @property
    def name(self) -> str:
        """What the policies call it: a candidate and its refit have one MLflow run, and are two models."""
        return f"{self.run_id}{REFIT}" if self.is_refit else self.run_id


class RunResult(Value):
    """The result of one run of the stages: a monthly run, or one that the drift policy started.

    `candidate` is None if the run trained none, and `refit` if its candidate was not fitted once more for production.
    `champion` is the name of the champion's model after this run, and `fresh_difference` the candidate's metric less
    the champion's on the fresh rows.
    """

    month: str
    decision: Literal["promoted", "rejected", "none"]
    message: str
    candidate: TrainedModel | None = None
    refit: TrainedModel | None = None
    champion: str | None = None
    fresh_difference: Difference | None = None
    log: str

    @property
    def models(self) -> list[TrainedModel]:
        """The models that the run made; the last one is that which it promotes."""
        return [model for model in (self.candidate, self.refit) if model]

    @property
    def start(self) -> datetime:
        """The first moment of the month."""
        return datetime.strptime(self.month, MONTH_FORMAT)


class Evaluation(Value):
    """The scores of the models in the month after their training, by name.

    `scores` has all models that were trained so far. `resampled_differences` has, for other models than the champion,
    the champion's score less theirs on each resample; None where a resample has no score.
    """

    rows: int
    scores: dict[str, float]
    resampled_differences: dict[str, list[float | None]]


class WeeklyCheck(Value):
    """The monitor's verdict at the end of a week, and the result of the run that it requested, if it did."""

    end: datetime
    verdict: str
    message: str
    run: RunResult | None = None


class DriftMonth(Value):
    """A month under the policy that retrains on drift: its checks, and the score of its champions in their time.

    `resampled_differences` has the score of the gate's policy less this one on each resample.
    """

    checks: list[WeeklyCheck]
    score: float
    resampled_differences: list[float | None]


class MonthResult(Value):
    """A finished month; `evaluation` is None while there is no champion."""

    run: RunResult
    evaluation: Evaluation | None = None
    drift: DriftMonth | None = None

    @property
    def checks(self) -> list[WeeklyCheck]:
        """The checks of the policy that retrains on drift."""
        return self.drift.checks if self.drift else []
