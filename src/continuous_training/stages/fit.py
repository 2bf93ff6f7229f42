"""Fit: the training entry point fits the model package's estimator on a snapshot and logs it to MLflow.

MLproject runs it, on this machine or another. It needs the code, the snapshot's folder and a tracking server.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import mlflow

from continuous_training.comparison import earlier_fit, evaluation
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.data.snapshots import FRESH, TRAIN, nullable_columns, read_snapshot
from continuous_training.documents import Recipe
from continuous_training.formatting.scorers import TRAINING, VALIDATION
from continuous_training.registry import connection, refits, runs
from continuous_training.settings import load_settings
from continuous_training.training.file_fit import fit_file
from continuous_training.training.fit_history import FitHistory
from continuous_training.training.refitting import fit_all, fit_earlier
from continuous_training.versions import packing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.registry.refits import RefitTask
    from continuous_training.registry.trials import Share
    from continuous_training.settings import Settings


def fit(model: str, folder: Path, parameters: dict[str, Any]) -> str:
    """Fit, evaluate and log the model; return the id of its MLflow run (MLFLOW_RUN_ID, or a new one).

    A grid or a search looks for the best parameters before. If the MLflow run is that of a refit, its tags say what is
    fitted once more.

    Args:
        model: the model package.
        folder: a snapshot's folder, with train.parquet and fresh.parquet.
        parameters: override those of training.yaml, and are not varied.

    Raises:
        UserError: no trial succeeds, the package has no `build`, the rows cannot be split for the validation, or the
            stored model's predictions differ from the fitted one's.
    """
    settings = load_settings(model).override(parameters)
    client = connection.open_client()
    with mlflow.start_run(experiment_id=runs.experiment_id(client, model)) as run:
        run_id = str(run.info.run_id)
        if task := refits.read_task(run.data.tags):
            _fit_again(model, folder, run_id, task, settings)
            return run_id
        best: dict[str, Any] = {}
        if settings.model.trials:
            from continuous_training.training import search  # Optuna takes a quarter of a second to import

            best, score = search.find_best_parameters(client, run_id, model, folder, settings)
            mlflow.log_metric(f"{VALIDATION}{settings.compare.metric}", score)
        parameters = settings.model.parameters | best
        fresh = read_snapshot(folder / FRESH, settings.data)
        mlflow.log_params({"task": settings.model.task, "features": len(settings.data.features), **parameters})
        history, start = FitHistory(client, run_id), time.monotonic()
        # After the search, whose processes have the rows in their own memory
        fitted, best_step, train = fit_file(model, folder / TRAIN, settings, parameters, history.report)
        recipe = Recipe(parameters=best, steps=history.close(best_step))
        mlflow.set_tag(runs.RECIPE, recipe.model_dump_json())
        mlflow.log_metric("fit_seconds", time.monotonic() - start)
        on_fresh = _log_scores("", fitted, fresh, settings)
        _log_scores(TRAINING, fitted, train, settings)
        _log_files(fitted, model, folder, settings, fresh, on_fresh)
    return run_id


def _fit_again(model: str, folder: Path, run_id: str, task: RefitTask, settings: Settings) -> None:
    """Fit a candidate's recipe on all rows, and before on older ones, and log both to the active MLflow run."""
    client = connection.open_client()
    settings = settings.override(task.recipe.parameters)
    fresh = read_snapshot(folder / FRESH, settings.data)
    mlflow.log_params({"task": settings.model.task, **settings.model.parameters})
    if task.earlier_until:
        history = FitHistory(client, None)
        earlier_fit.save(client, run_id, *fit_earlier(model, folder, settings, task, fresh, history.report))
    history, start = FitHistory(client, run_id), time.monotonic()
    fitted, best_step, rows = fit_all(model, folder, settings, task, history.report)
    history.close(best_step)
    mlflow.log_metric("fit_seconds", time.monotonic() - start)
    _log_scores(TRAINING, fitted, rows, settings)
    data = settings.data
    on_fresh = evaluation.predict(fitted, fresh[data.features], settings.model.task, len(data.targets))
    _log_files(fitted, model, folder, settings, fresh, on_fresh)


def _log_scores(prefix: str, fitted: Any, rows: pd.DataFrame, settings: Settings) -> Predictions:  # noqa: ANN401
    """Score an estimator on rows, and return its predictions for them."""
    data = settings.data
    predictions = evaluation.predict(fitted, rows[data.features], settings.model.task, len(data.targets))
    truth = GroundTruth.of(rows, settings)
    scores = {name: evaluation.score(name, predictions, truth) for name in settings.compare.metrics}
    mlflow.log_metrics({f"{prefix}{name}": score for name, score in scores.items()})
    return predictions


def _log_files(
    fitted: Any,  # noqa: ANN401
    model: str,
    folder: Path,
    settings: Settings,
    fresh: pd.DataFrame,
    on_fresh: Predictions,
) -> None:
    nullable = nullable_columns(folder / TRAIN) | nullable_columns(folder / FRESH)
    packing.log_files(fitted, model, settings, fresh, nullable, on_fresh.values)


def try_share(model: str, folder: Path, run_id: str, share: Share) -> None:
    """Do a share of the trials of a grid or a search, for the training of an MLflow run, which fits the best one later.

    Args:
        model: the model package.
        folder: a snapshot's folder.
        run_id: the MLflow run of the training.
        share: which trials.
    """
    from continuous_training.training import search

    search.try_share(connection.open_client(), run_id, model, folder, load_settings(model), share)


def replicate(model: str, folder: Path, parameters: dict[str, Any]) -> None:
    """Do the same fits as `fit`, in another process of a data-parallel training, and log and store nothing.

    Raises:
        UserError: as `fit`.
    """
    settings = load_settings(model).override(parameters)
    run_id = os.environ.get("MLFLOW_RUN_ID")
    task = refits.read_task(connection.open_client().get_run(run_id).data.tags) if run_id else None
    if task is None:
        fit_file(model, folder / TRAIN, settings, settings.model.parameters, _ignore)
        return
    fresh = read_snapshot(folder / FRESH, settings.data)
    if task.earlier_until:
        fit_earlier(model, folder, settings, task, fresh, _ignore)
    fit_all(model, folder, settings, task, _ignore)


def _ignore(step: int, metrics: Mapping[str, float]) -> None:
    """Report nothing: the first process of a data-parallel training does."""
