"""The search for parameters, by a grid or by Optuna: trials in processes, each with an MLflow run below its training's.

MLflow has all that a search remembers, so an interrupted one continues on any machine, and several machines share one.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from continuous_training.errors import UserError
from continuous_training.formatting import format_parameters
from continuous_training.formatting.scorers import VALIDATION, format_score, plain_name
from continuous_training.registry import trials
from continuous_training.registry.trials import TrackedTrial
from continuous_training.training.search_process import SearchProcess, TrialError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlflow import MlflowClient
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from continuous_training.registry.trials import Share
    from continuous_training.settings import Range, Search, Settings

log = logging.getLogger(__name__)

MAX_FAILURES = 3  # trials of a search that may fail before one succeeds
FIRST_STEPS, FIRST_TRIALS = 10, 5  # that are not stopped: too little is known
STATUS = {TrialState.COMPLETE: trials.FINISHED, TrialState.PRUNED: trials.KILLED, TrialState.FAIL: trials.FAILED}
STATES = {status: state for state, status in STATUS.items()}
NUMBER = "number"  # the attribute of Optuna's trials that has ours: Optuna counts what MLflow has, too


def find_best_parameters(
    client: MlflowClient, run_id: str, model: str, folder: Path, settings: Settings
) -> tuple[dict[str, Any], float]:
    """Do the trials that are left; return the best one's parameters, and its score on the newest training rows.

    Args:
        client: of MLflow.
        run_id: the MLflow run of the training.
        model: the model package.
        folder: a snapshot's folder.
        settings: the settings of the model, with a grid or a search.

    Raises:
        UserError: no trial succeeds, or the search is terminated.
    """
    study = _Study(client, run_id, settings)
    if study.known:
        log.info("Continuing the search: %s of %s trials are known", len(study.known), settings.model.trials)
    study.run(model, folder, study.list_open_trials())
    complete = [trial for trial in study.known.values() if trial.score is not None]
    if not complete:
        errors = [trial.error for _, trial in sorted(study.known.items()) if trial.error]
        raise UserError(f"no trial of the search succeeds: {errors[0] if errors else 'its time is over'}")
    best = max(complete, key=lambda trial: (trial.score, -trial.number))
    score = best.score or 0.0  # it is not missing
    result = f"{study.describe(score)} with {format_parameters(best.parameters)}"
    log.info("Trial %s is the best of %s: %s", best.number + 1, len(study.known), result)
    return best.parameters, score


def try_share(client: MlflowClient, run_id: str, model: str, folder: Path, settings: Settings, share: Share) -> None:
    """Do those trials of a share that are left, beside other instances, whose trials count for the suggestions.

    The arguments are those of `find_best_parameters`, which finds the trials in MLflow later.
    """
    study = _Study(client, run_id, settings)
    study.run(model, folder, share.select(study.list_open_trials()), is_shared=True)


class _Study:
    """The trials of a training: those that MLflow has, and those that are done here."""

    def __init__(self, client: MlflowClient, run_id: str, settings: Settings) -> None:
        self._client, self._settings = client, settings
        self.training = client.get_run(run_id)
        self.known = trials.find_trials(client, self.training, settings)
        self._lock = threading.Lock()  # trials that run at the same time end in threads

    def list_open_trials(self) -> list[int]:
        """Return the numbers of the trials that are still to be done."""
        return trials.list_open_trials(self.training, self.known, self._settings)

    def run(self, model: str, folder: Path, numbers: Sequence[int], *, is_shared: bool = False) -> None:
        """Do the trials of these numbers."""
        limits = self._settings.model.search
        if not numbers or (limits and self._all_fail()):
            return
        optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # `_add` logs the trials
        study, at_once, seconds = optuna.create_study(direction="maximize"), 1, None
        if limits:
            # With another seed, or else a search that continues would try its first values again
            study = create_study(limits, limits.seed + numbers[0])
            study.add_trials([_to_optuna(trial, limits) for trial in self.known.values()])
            at_once, seconds = limits.at_once, None if limits.minutes is None else 60 * limits.minutes
            parameters = self._settings.model.parameters
            if numbers[0] == 0 and all(name in parameters for name in limits.space):  # a search should not be worse
                first = {name: parameters[name] for name in limits.space}
                if self._settings.model.has_trial(0, first):
                    study.enqueue_trial(first)

        def finish(study: optuna.Study, frozen: FrozenTrial) -> None:
            with self._lock:
                self._add(frozen)
                if limits and is_shared:
                    study.add_trials([_to_optuna(trial, limits) for trial in self._read_others()])
                if limits and self._all_fail():  # the next ones would fail, too
                    study.stop()

        start = time.monotonic()
        with _Objective(model, folder, self._settings, numbers, at_once) as objective:
            study.optimize(
                objective,
                n_trials=len(numbers),
                timeout=seconds,
                n_jobs=at_once,
                catch=(TrialError,),
                callbacks=[finish],
            )
        if is_shared and seconds is not None and time.monotonic() - start >= seconds:
            self._client.set_tag(self.training.info.run_id, trials.TIME_IS_OVER, "true")

    def describe(self, score: float) -> str:
        """Return a score as text, with the metric's name."""
        metric = self._settings.compare.metric
        return f"{plain_name(metric)} {format_score(score, metric)}"

    def _add(self, frozen: FrozenTrial) -> None:
        """Add a trial that has ended, and log it."""
        number, parameters = frozen.user_attrs[NUMBER], frozen.user_attrs["parameters"]
        score, error, result = None, None, "stopped early"
        if frozen.state == TrialState.COMPLETE and frozen.value is not None:
            score, result = frozen.value, f"{VALIDATION}{self.describe(frozen.value)}"
        elif frozen.state == TrialState.FAIL:
            error = result = frozen.user_attrs.get("error", "its score is no number")
        trial = TrackedTrial(number, parameters, STATUS[frozen.state], score, error)
        self.known[number] = trial
        trials.add_trial(self._client, self.training, trial, self._settings)
        log.info("Trial %s: %s with %s", number + 1, result, format_parameters(parameters))

    def _read_others(self) -> list[TrackedTrial]:
        """Return the trials that other instances have done since the last call."""
        found = trials.find_trials(self._client, self.training, self._settings)
        new = [trial for number, trial in found.items() if number not in self.known]
        self.known |= {trial.number: trial for trial in new}
        return new

    def _all_fail(self) -> bool:
        statuses = [trial.status for trial in self.known.values()]
        return len(statuses) >= MAX_FAILURES and set(statuses) == {trials.FAILED}


def create_study(limits: Search, seed: int) -> optuna.Study:
    """Return a study in memory, whose suggestions depend on the seed."""
    pruner = optuna.pruners.MedianPruner(FIRST_TRIALS, FIRST_STEPS) if limits.prune else optuna.pruners.NopPruner()
    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=limits.at_once > 1)
    return optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)


def _to_optuna(trial: TrackedTrial, limits: Search) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=STATES[trial.status], params=trial.parameters, distributions=distributions(limits), value=trial.score
    )


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

    def __init__(self, model: str, folder: Path, settings: Settings, numbers: Sequence[int], at_once: int) -> None:
        self._model, self._folder, self._at_once = model, folder, at_once
        self._settings = settings.model
        self._space = distributions(settings.model.search) if settings.model.search else None
        self._numbers = deque(numbers)
        self._idle: queue.SimpleQueue[SearchProcess] = queue.SimpleQueue()
        self._processes = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.close()

    def __call__(self, trial: optuna.Trial) -> float:
        number = self._numbers.popleft()
        chosen = self._choose(trial, number)
        trial.set_user_attr(NUMBER, number)
        trial.set_user_attr("parameters", chosen)

        def goes_on(step: int, value: float) -> bool:
            if self._space is None:
                return True
            trial.report(value, step)
            return not trial.should_prune()

        process = self._take_process()
        try:
            score = process.score(self._settings.parameters | chosen, goes_on)
        except TrialError as error:
            trial.set_user_attr("error", str(error))
            raise
        finally:
            if process.is_alive:
                self._idle.put(process)
        if score is None:
            raise optuna.TrialPruned
        return score

    def _choose(self, trial: optuna.Trial, number: int) -> dict[str, Any]:
        """Return the values of the parameters that are varied."""
        if self._space is None:
            return self._settings.combination(number)
        return {name: _suggest(trial, name, values) for name, values in self._space.items()}

    def _take_process(self) -> SearchProcess:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._processes.enter_context(SearchProcess(self._model, self._folder, self._at_once))
