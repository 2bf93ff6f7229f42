"""Fit: the training entry point fits the model package's estimator on a snapshot and logs it to MLflow.

MLproject runs it, on this machine or another. It needs the code, the snapshot's folder and a tracking server.
"""

from __future__ import annotations

import importlib
import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import mlflow

from continuous_training.comparison import evaluation
from continuous_training.data.snapshots import read_snapshot
from continuous_training.errors import UserError
from continuous_training.extras import describe_missing
from continuous_training.registry import connection, runs
from continuous_training.scorers import TRAINING, VALIDATION
from continuous_training.settings import Settings, load_settings
from continuous_training.versions import packing

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from continuous_training.settings import Model

log = logging.getLogger(__name__)


def fit(model: str, folder: Path, parameters: dict[str, Any]) -> str:
    """Fit, evaluate and log the model; return the id of its MLflow run (MLFLOW_RUN_ID, or a new one).

    A model with a grid is validated first, on the newest of its training rows. If the best trial were chosen by the
    fresh rows, its score would be biased upwards in Compare, which uses the same rows.

    Args:
        model: the model package.
        folder: a snapshot's folder, with train.parquet and fresh.parquet.
        parameters: override those of training.yaml.

    Raises:
        UserError: the package has no `build`, the rows cannot be split for the validation, or the stored model's
            predictions differ from the fitted one's.
    """
    settings = load_settings(model)
    parameters = settings.model.parameters | parameters
    train, fresh = (read_snapshot(folder / name, settings.data) for name in ("train.parquet", "fresh.parquet"))
    features, target = settings.data.features, settings.data.target
    estimator = _build(model, settings, parameters)
    client = connection.open_client()
    with mlflow.start_run(experiment_id=runs.experiment_id(client, model)) as run:
        mlflow.log_params({"task": settings.model.task, "features": len(features), **parameters})
        if settings.model.grid:
            score = _validate(_build(model, settings, parameters), train, settings)
            mlflow.log_metric(f"{VALIDATION}{settings.compare.metric}", score)
        log.info("Fitting %s on %s rows of %d features", type(estimator).__name__, f"{len(train):,}", len(features))
        start = time.monotonic()
        _fit(estimator, train[features], train[target], settings.model)
        mlflow.log_metric("fit_seconds", time.monotonic() - start)
        on_fresh = evaluation.predict(estimator, fresh[features], settings.model.task)
        on_train = evaluation.predict(estimator, train[features], settings.model.task)
        mlflow.log_metrics({name: evaluation.score(name, on_fresh, fresh[target]) for name in settings.compare.metrics})
        mlflow.log_metrics(
            {f"{TRAINING}{name}": evaluation.score(name, on_train, train[target]) for name in settings.compare.metrics}
        )
        packing.log_files(estimator, model, settings, (train, fresh), on_fresh.values)
    return str(run.info.run_id)


def _build(model: str, settings: Settings, parameters: dict[str, Any]) -> Any:  # noqa: ANN401 - any estimator
    try:
        build = importlib.import_module(f"{model}.model").build
    except ModuleNotFoundError as error:
        raise UserError(f"src/{model}/model.py cannot be imported: {describe_missing(error)}") from error
    except (ImportError, AttributeError) as error:
        raise UserError(f"src/{model}/model.py has no function build: {error}") from error
    parts = {kind: settings.data.features_of(kind) for kind in ("category", "number")}
    return build(categories=parts["category"], numbers=parts["number"], **parameters)


def _fit(estimator: Any, rows: pd.DataFrame, labels: pd.Series, settings: Model) -> None:  # noqa: ANN401
    """Fit an estimator.

    Raises:
        UserError: it cannot be fitted on these rows, or lacks what its task needs.
    """
    name = type(estimator).__name__
    try:
        estimator.fit(rows, labels)
    except Exception as error:  # whatever a library or the model's own code raises
        raise UserError(f"{name} cannot be fitted: {str(error).strip() or type(error).__name__}") from error
    needed = ("predict_proba", "classes_") if settings.task == "classification" else ("predict",)
    if missing := [attribute for attribute in needed if not hasattr(estimator, attribute)]:
        raise UserError(f"{name} has no {' and no '.join(missing)}, which the task {settings.task} needs")


def _validate(estimator: Any, train: pd.DataFrame, settings: Settings) -> float:  # noqa: ANN401
    """Fit on all but the newest `fresh_days` of the training rows, and score on those, as Compare does later.

    Raises:
        UserError: there are no rows before those days, or a part has only one class.
    """
    data = settings.data
    days = f"the last {data.fresh_days} days of the training rows"
    newest = train[data.time] > train[data.time].max() - timedelta(days=data.fresh_days)
    parts = {f"before {days}": train[~newest], f"on {days}": train[newest]}
    for where, rows in parts.items():
        classes = rows[data.target].nunique()
        if rows.empty or (settings.model.task == "classification" and classes < 2):
            message = "there are no rows" if rows.empty else "all rows have the same class"
            raise UserError(
                f"the grid cannot be validated: {message} {where}; increase train_days, or remove model.grid"
            )
    before, last = parts.values()
    log.info("Validating on %s rows after fitting on %s", f"{len(last):,}", f"{len(before):,}")
    _fit(estimator, before[data.features], before[data.target], settings.model)
    predictions = evaluation.predict(estimator, last[data.features], settings.model.task)
    return evaluation.score(settings.compare.metric, predictions, last[data.target])
