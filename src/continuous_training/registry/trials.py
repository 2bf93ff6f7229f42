"""The trials of a grid or a search in MLflow: each is a run below that of its training, written when it has ended.

A trial has a number, from 0: so trainings with the same fingerprint, and the instances of one of them, do each once.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic import ValidationError

from continuous_training.documents import Value
from continuous_training.formatting.scorers import VALIDATION
from continuous_training.registry import runs
from continuous_training.registry.connection import clip

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from mlflow import MlflowClient
    from mlflow.entities import Run as TrackedRun

    from continuous_training.settings import Settings

PARENT = "mlflow.parentRunId"  # MLflow's tag: the training
NOTE = "mlflow.note.content"  # MLflow's tag: the description, here why the trial failed
TRIAL = "ct.trial"  # JSON: number and parameters. Set last: a trial without it has not ended
TIME_IS_OVER = "ct.search_time_is_over"  # on the training: no other trial begins
FINISHED, KILLED, FAILED = "FINISHED", "KILLED", "FAILED"  # MLflow's names of a run's status


class Share(NamedTuple):
    """A share of the trials: of `total` shares the one that begins with the trial `number`, from 0."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number + 1}/{self.total}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a share such as '1/2', the first of two.

        Raises:
            ValueError: it is none.
        """
        number, _, total = text.partition("/")
        share = cls(int(number) - 1, int(total))
        if not 0 <= share.number < share.total:
            raise ValueError(f"{text} is not a share")
        return share

    def select(self, numbers: Iterable[int]) -> list[int]:
        """Return the numbers of this share's trials."""
        return [number for number in numbers if number % self.total == self.number]


class TrackedTrial(NamedTuple):
    """A trial that has ended.

    Attributes:
        number: from 0.
        parameters: those that are varied.
        status: of its MLflow run; KILLED if it was stopped early.
        score: on the validation rows, if it is FINISHED.
        error: why it is FAILED.
    """

    number: int
    parameters: dict[str, Any]
    status: str
    score: float | None = None
    error: str | None = None


class _Label(Value):
    """The tag of a trial that has ended."""

    number: int
    parameters: dict[str, Any]


def find_trials(client: MlflowClient, training: TrackedRun, settings: Settings) -> dict[int, TrackedTrial]:
    """Return the trials that have ended, by number, of a training and of earlier ones with its fingerprint.

    Those of earlier ones that failed are left out: what they lacked, such as memory, may be there now.
    """
    trials = {}
    for run in _search_runs(client, training):
        trial = _read(run, f"{VALIDATION}{settings.compare.metric}")
        is_own = run.data.tags.get(PARENT) == training.info.run_id
        if trial and (is_own or trial.status != FAILED) and settings.model.has_trial(trial.number, trial.parameters):
            trials[trial.number] = trial
    return trials


def list_open_trials(training: TrackedRun, known: Collection[int], settings: Settings) -> list[int]:
    """Return the numbers of the trials that are still to be done, all but those that are known; a refit has none."""
    if {TIME_IS_OVER, runs.REFIT_OF} & training.data.tags.keys():
        return []
    return [number for number in range(settings.model.trials) if number not in known]


def add_trial(client: MlflowClient, training: TrackedRun, trial: TrackedTrial, settings: Settings) -> None:
    """Add the MLflow run of a trial that has ended, below that of its training."""
    tags = {PARENT: training.info.run_id, runs.TRIAL_OF: fingerprint_of(training)}
    if trial.error is not None:
        tags[NOTE] = clip(trial.error)
    name = f"{training.info.run_name}-{trial.number + 1}"
    run_id = client.create_run(training.info.experiment_id, run_name=name, tags=tags).info.run_id
    for key, value in trial.parameters.items():
        client.log_param(run_id, key, value)
    if trial.score is not None:
        client.log_metric(run_id, f"{VALIDATION}{settings.compare.metric}", trial.score)
    client.set_terminated(run_id, status=trial.status)
    client.set_tag(run_id, TRIAL, json.dumps({"number": trial.number, "parameters": trial.parameters}))


def fingerprint_of(training: TrackedRun) -> str:
    """Return what the trials of a training are trials of; without a fingerprint they are of this training alone."""
    return str(training.data.tags.get(runs.FINGERPRINT, training.info.run_id))


def _search_runs(client: MlflowClient, training: TrackedRun) -> Iterator[TrackedRun]:
    """Yield the MLflow runs of the trials, the oldest first."""
    query, token = f"tags.`{runs.TRIAL_OF}` = '{fingerprint_of(training)}'", None
    while True:
        order = ["attributes.start_time ASC"]
        page = client.search_runs([training.info.experiment_id], query, order_by=order, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _read(run: TrackedRun, metric: str) -> TrackedTrial | None:
    tags, status = run.data.tags, run.info.status
    try:
        label = _Label.model_validate_json(tags.get(TRIAL, ""))
    except ValidationError:
        return None
    score = run.data.metrics.get(metric) if status == FINISHED else None
    if status not in {KILLED, FAILED} and (score is None or not math.isfinite(score)):
        return None
    return TrackedTrial(label.number, label.parameters, status, score, tags.get(NOTE))
