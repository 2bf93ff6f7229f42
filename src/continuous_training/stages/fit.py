"""Fit: the training entry point fits the model package's estimator on a snapshot and logs it to MLflow.

MLproject runs it, on this machine or another. It needs the code, the snapshot's folder and a tracking server.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import mlflow

from continuous_training.comparison import evaluation
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.data.row_groups import RowGroups
from continuous_training.data.snapshots import FRESH, TRAIN, nullable_columns, read_snapshot
from continuous_training.formatting.scorers import TRAINING, VALIDATION
from continuous_training.registry import connection, runs
from continuous_training.settings import load_settings
from continuous_training.training.estimators import build_estimator, fit_estimator, fit_in_batches
from continuous_training.training.fit_history import FitHistory
from continuous_training.versions import packing

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from continuous_training.registry.trials import Share
    from continuous_training.settings import Settings

SAMPLE_ROWS = 200_000  # of training rows beyond memory: for their score, and for the steps before the estimator


def fit(model: str, folder: Path, parameters: dict[str, Any]) -> str:
    """Fit, evaluate and log the model; return the id of its MLflow run (MLFLOW_RUN_ID, or a new one).

    A grid or a search looks for the best parameters before.

    Args:
        model: the model package.
        folder: a snapshot's folder, with train.parquet and fresh.parquet.
        parameters: override those of training.yaml, and are not varied.

    Raises:
        UserError: no trial succeeds, the package has no `build`, the rows cannot be split for the validation, or the
            stored model's predictions differ from the fitted one's.
    """
    settings = load_settings(model).override(parameters)
    parameters, features = settings.model.parameters, settings.data.features
    client = connection.open_client()
    with mlflow.start_run(experiment_id=runs.experiment_id(client, model)) as run:
        run_id = str(run.info.run_id)
        if settings.model.trials:
            from continuous_training.training import search  # Optuna takes a quarter of a second to import

            best, score = search.find_best_parameters(client, run_id, model, folder, settings)
            parameters = parameters | best
            mlflow.log_metric(f"{VALIDATION}{settings.compare.metric}", score)
        # After the search, whose processes have the rows in their own memory
        train, batches = _read_training_rows(folder / TRAIN, settings)
        fresh = read_snapshot(folder / FRESH, settings.data)
        mlflow.log_params({"task": settings.model.task, "features": len(features), **parameters})
        estimator, history = build_estimator(model, settings, parameters), FitHistory(client, run_id)
        start = time.monotonic()
        if batches:
            fitted, best_step = fit_in_batches(estimator, model, train, batches, settings, history.report)
        else:
            fitted, best_step = fit_estimator(estimator, model, train, settings, history.report)
        history.close(best_step)
        mlflow.log_metric("fit_seconds", time.monotonic() - start)
        task, targets = settings.model.task, len(settings.data.targets)
        on_fresh = evaluation.predict(fitted, fresh[features], task, targets)
        on_train = evaluation.predict(fitted, train[features], task, targets)
        for prefix, predictions, rows in (("", on_fresh, fresh), (TRAINING, on_train, train)):
            truth = GroundTruth.of(rows, settings)
            mlflow.log_metrics(
                {f"{prefix}{name}": evaluation.score(name, predictions, truth) for name in settings.compare.metrics}
            )
        nullable = nullable_columns(folder / TRAIN) | nullable_columns(folder / FRESH)
        packing.log_files(fitted, model, settings, fresh, nullable, on_fresh.values)
    return run_id


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
    train = read_snapshot(folder / TRAIN, settings.data)
    fit_estimator(build_estimator(model, settings, settings.model.parameters), model, train, settings, lambda *_: None)


def _read_training_rows(path: Path, settings: Settings) -> tuple[pd.DataFrame, RowGroups | None]:
    """Return the training rows; with `model.batches` a sample of them, and all of them in batches."""
    if not settings.model.batches:
        return read_snapshot(path, settings.data), None
    batches = RowGroups(path, settings.data)
    classes = settings.data.targets[0] if settings.model.task == "classification" else None
    return batches.sample(SAMPLE_ROWS, classes), batches
