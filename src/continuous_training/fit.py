"""The training entry point: fit the model package's estimator on a snapshot and log it to MLflow.

MLproject runs it, on this machine or on any other; it needs the code, the snapshot's folder and a tracking server.
"""

from __future__ import annotations

import importlib
import logging
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import mlflow
import mlflow.sklearn
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from continuous_training import golden, registry, settings, snapshot
from continuous_training.comparison import evaluation
from continuous_training.problem import Problem

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from mlflow.models.model import ModelInfo

log = logging.getLogger(__name__)

REQUIREMENTS = ("mlflow", "numpy", "pandas", "scikit-learn", "skops")


def fit(model: str, folder: Path) -> str:
    """Fit, evaluate and log the model; return the id of its MLflow run (MLFLOW_RUN_ID, or a new one).

    Args:
        model: the model package.
        folder: a snapshot's folder, with train.parquet and fresh.parquet.

    Raises:
        Problem: the package has no `build`, or the stored model does not predict what the fitted one does.
    """
    given = settings.load(model)
    train, fresh = (snapshot.read(folder / name, given.data) for name in ("train.parquet", "fresh.parquet"))
    features, target = given.data.features, given.data.target
    estimator = _build(model, given)
    client = registry.open_client()
    with mlflow.start_run(experiment_id=registry.experiment(client, model)) as run:
        mlflow.log_params({"task": given.model.task, "features": len(features), **given.model.parameters})
        log.info("Fitting %s on %s rows of %d features", type(estimator).__name__, f"{len(train):,}", len(features))
        began = time.monotonic()
        estimator.fit(train[features], train[target])
        mlflow.log_metric("fit_seconds", time.monotonic() - began)
        on_fresh = evaluation.predict(estimator, fresh[features], given.model.task)
        on_train = evaluation.predict(estimator, train[features], given.model.task)
        mlflow.log_metrics({name: evaluation.score(name, on_fresh, fresh[target]) for name in given.compare.metrics})
        primary = evaluation.score(given.compare.metric, on_train, train[target])
        mlflow.log_metric(f"train_{given.compare.metric}", primary)
        answers = on_fresh.answers
        logged = _log_model(estimator, given.model, fresh[features], answers)
        golden.keep(logged.model_uri, fresh[features], answers)
    return str(run.info.run_id)


def _build(model: str, given: settings.Settings) -> Any:  # noqa: ANN401 - any scikit-learn estimator
    try:
        build = importlib.import_module(f"{model}.model").build
    except (ImportError, AttributeError) as error:
        raise Problem(f"src/{model}/model.py has no function build: {error}") from error
    parts = {kind: given.data.features_of(kind) for kind in ("category", "number")}
    return build(categories=parts["category"], numbers=parts["number"], **given.model.parameters)


def _log_model(estimator: Any, given: settings.Model, rows: pd.DataFrame, answers: np.ndarray[Any, Any]) -> ModelInfo:  # noqa: ANN401
    """Store the model with skops, which refuses every type that it is not told to trust."""
    try:
        logged: ModelInfo = mlflow.sklearn.log_model(
            estimator,
            name="model",
            serialization_format="skops",
            skops_trusted_types=list(given.trusted_types),
            signature=infer_signature(rows, answers),
            input_example=rows.head(3),
            pyfunc_predict_fn="predict_proba" if given.task == "classification" else "predict",
            pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        )
    except MlflowException as error:
        _, unknown, types = error.message.partition("Untrusted types found in the file: ")
        if not unknown:
            raise
        listed = types.rstrip(".")
        raise Problem(f"the model holds types that skops does not know: add {listed} to model.trusted_types") from error
    return logged
