"""The search for parameters: trials by Optuna, in processes, each with an MLflow run below that of the training.

MLflow has all that a search remembers, so an interrupted one continues on any machine.
"""

from __future__ import annotations

import logging
import queue
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from continuous_training.errors import UserError
from continuous_training.formatting import format_parameters
from continuous_training.formatting.scorers import VALIDATION, format_score, plain_name
from continuous_training.registry import runs
from continuous_training.training.search_process import SearchProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow import MlflowClient
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from continuous_training.settings import Range, Search, Settings

log = logging.getLogger(__name__)

MAX_FAILURES = 3  # trials that may fail before one succeeds
FIRST_STEPS, FIRST_TRIALS = 10, 5  # that are not stopped: too little is known
STATUS = {TrialState.COMPLETE: runs.FINISHED, TrialState.PRUNED: runs.KILLED, TrialState.FAIL: runs.FAILED}


def search(
    client: MlflowClient, run_id: str, model: str, folder: Path, settings: Settings, parameters: dict[str, Any]
) -> tuple[dict[str, Any], float]:
    """Return the best parameters, and their score on the newest training rows.

    Args:
        client: of MLflow.
        run_id: the MLflow run of the training.
        model: the model package.
        folder: a snapshot's folder.
        settings: the settings of the model.
        parameters: those that are not varied.

    Raises:
        UserError: training.yaml has no search, or no trial succeeds.
    """
    limits = settings.model.search
    if limits is None:
        raise UserError("training.yaml has no model.search")
    study = create_study(limits)
    record = _Record(client, run_id, settings.compare.metric)
    study.add_trials([*record.read(distributions(limits))])
    known = len(study.trials)
    if known:
        log.info("Continuing the search: %s of %s trials are known", known, limits.trials)
    elif all(name in parameters and values.contains(parameters[name]) for name, values in limits.space.items()):
        study.enqueue_trial({name: parameters[name] for name in limits.space})  # a search should not be worse
    if known < limits.trials:
        with _Objective(model, folder, limits, parameters) as objective:
            study.optimize(
                objective,
                n_trials=limits.trials - known,
                timeout=None if limits.minutes is None else 60 * limits.minutes,
                n_jobs=limits.at_once,
                catch=(UserError,),
                callbacks=[record.write, _stop_if_all_fail],
            )
    if not study.get_trials(states=[TrialState.COMPLETE]):
        errors = [trial.user_attrs["error"] for trial in study.trials if "error" in trial.user_attrs]
        raise UserError(f"no trial of the search succeeds: {errors[0] if errors else 'its time is over'}")
    metric = settings.compare.metric
    result = f"{plain_name(metric)} {format_score(study.best_value, metric)}"
    log.info("The best of %s trials: %s with %s", len(study.trials), result, format_parameters(study.best_params))
    return study.best_params, study.best_value


def create_study(limits: Search) -> optuna.Study:
    """Return a study in memory, whose trials depend on the seed."""
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # `_Record` logs the trials
    pruner = optuna.pruners.MedianPruner(FIRST_TRIALS, FIRST_STEPS) if limits.prune else optuna.pruners.NopPruner()
    sampler = optuna.samplers.TPESampler(seed=limits.seed, constant_liar=limits.at_once > 1)
    return optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)


def distributions(limits: Search) -> dict[str, BaseDistribution]:
    """Return the space as Optuna has it."""
    return {name: _distribution(values) for name, values in limits.space.items()}


def _distribution(values: Range) -> BaseDistribution:
    if values.type == "categorical":
        return CategoricalDistribution(values.values or ())
    low, high = values.low or 0.0, values.high or 0.0  # neither is missing: the settings are checked
    if values.type == "int":
        return IntDistribution(int(low), int(high), log=values.log, step=int(values.step or 1))
    return FloatDistribution(low, high, log=values.log, step=values.step)


def _suggest(trial: optuna.Trial, name: str, values: BaseDistribution) -> Any:  # noqa: ANN401 - a value of any type
    if isinstance(values, CategoricalDistribution):
        return trial.suggest_categorical(name, values.choices)
    if isinstance(values, IntDistribution):
        return trial.suggest_int(name, values.low, values.high, step=values.step, log=values.log)
    if isinstance(values, FloatDistribution):
        return trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)
    raise TypeError(f"unknown distribution {values}")


class _Objective:
    """Scores trials in processes, which it starts when they are needed."""

    def __init__(self, model: str, folder: Path, limits: Search, parameters: dict[str, Any]) -> None:
        self._model, self._folder, self._at_once, self._parameters = model, folder, limits.at_once, parameters
        self._space = distributions(limits)
        self._idle: queue.SimpleQueue[SearchProcess] = queue.SimpleQueue()
        self._processes = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.close()

    def __call__(self, trial: optuna.Trial) -> float:
        chosen = {name: _suggest(trial, name, values) for name, values in self._space.items()}

        def goes_on(step: int, value: float) -> bool:
            trial.report(value, step)
            return not trial.should_prune()

        process = self._take_process()
        try:
            score = process.score(self._parameters | chosen, goes_on)
        except UserError as error:
            trial.set_user_attr("error", str(error))
            raise
        finally:
            if process.is_alive:
                self._idle.put(process)
        if score is None:
            raise optuna.TrialPruned
        return score

    def _take_process(self) -> SearchProcess:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._processes.enter_context(SearchProcess(self._model, self._folder, self._at_once))


class _Record:
    """The trials of a training in MLflow, and of an interrupted one with the same fingerprint."""

    def __init__(self, client: MlflowClient, run_id: str, metric: str) -> None:
        self._client, self._metric = client, f"{VALIDATION}{metric}"
        self._training = client.get_run(run_id)
        self._fingerprint = self._training.data.tags.get(runs.FINGERPRINT, run_id)

    def read(self, space: dict[str, BaseDistribution]) -> Iterator[FrozenTrial]:
        """Yield the trials that are known."""
        states = {status: state for state, status in STATUS.items()}
        for trial in runs.find_trials(self._client, self._training.info.experiment_id, self._fingerprint, self._metric):
            if trial.status in states and trial.parameters.keys() == space.keys():
                yield optuna.trial.create_trial(
                    state=states[trial.status], params=trial.parameters, distributions=space, value=trial.score
                )

    def write(self, study: optuna.Study, trial: FrozenTrial) -> None:  # noqa: ARG002 - Optuna passes it
        """Add a trial, and log it."""
        score = trial.value if trial.state == TrialState.COMPLETE else None
        runs.add_trial(
            self._client,
            self._training,
            f"{self._training.info.run_name}-{trial.number + 1}",
            self._fingerprint,
            runs.TrackedTrial(trial.params, STATUS[trial.state], score),
            self._metric,
        )
        result = trial.user_attrs.get("error", "stopped early")
        if score is not None:
            result = f"{plain_name(self._metric)} {format_score(score, self._metric)}"
        log.info("Trial %s: %s with %s", trial.number + 1, result, format_parameters(trial.params))


def _stop_if_all_fail(study: optuna.Study, trial: FrozenTrial) -> None:  # noqa: ARG001 - Optuna passes it
    """End a search whose first trials have all failed: the next ones would fail, too."""
    states = [each.state for each in study.trials if each.state.is_finished()]
    if len(states) >= MAX_FAILURES and set(states) == {TrialState.FAIL}:
        study.stop()
