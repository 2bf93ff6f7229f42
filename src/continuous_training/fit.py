"""The training entry point: fit the model package's estimator on a snapshot and log it to MLflow.

MLproject runs it, on this machine or on any other; it needs the code, the snapshot's folder and a tracking server.
"""

from __future__ import annotations

import importlib
import json
import logging
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import mlflow
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
from mlflow.models import infer_signature

from continuous_training import evaluation, registry, settings, snapshot
from continuous_training.problem import Problem

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

log = logging.getLogger(__name__)

GOLDEN = "golden.json"
GOLDEN_ROWS = 50
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
        scorers = (given.compare.metric, *given.compare.report)
        on_fresh = evaluation.predict(estimator, fresh[features], given.model.task)
        on_train = evaluation.predict(estimator, train[features], given.model.task)
        mlflow.log_metrics({name: evaluation.score(name, on_fresh, fresh[target]) for name in scorers})
        primary = evaluation.score(given.compare.metric, on_train, train[target])
        mlflow.log_metric(f"train_{given.compare.metric}", primary)
        answers = on_fresh.answers
        logged = mlflow.sklearn.log_model(
            estimator,
            name="model",
            serialization_format="skops",
            skops_trusted_types=list(given.model.trusted_types),
            signature=infer_signature(fresh[features], answers),
            input_example=fresh[features].head(3),
            pyfunc_predict_fn="predict_proba" if given.model.task == "classification" else "predict",
            pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        )
        _log_golden(logged.model_uri, fresh[features].head(GOLDEN_ROWS), answers[:GOLDEN_ROWS])
    return str(run.info.run_id)


def golden(run_id: str) -> tuple[dict[str, Any], list[Any]]:
    """Return the rows whose answers were kept, in MLflow's `dataframe_split`, and those answers."""
    kept = json.loads(mlflow.artifacts.load_text(f"runs:/{run_id}/{GOLDEN}"))
    return kept["dataframe_split"], kept["predictions"]


def _build(model: str, given: settings.Settings) -> Any:  # noqa: ANN401 - any scikit-learn estimator
    try:
        build = importlib.import_module(f"{model}.model").build
    except (ImportError, AttributeError) as error:
        raise Problem(f"src/{model}/model.py has no function build: {error}") from error
    parts = {kind: given.data.features_of(kind) for kind in ("category", "number")}
    return build(categories=parts["category"], numbers=parts["number"], **given.model.parameters)


def _log_golden(model_uri: str, rows: pd.DataFrame, answers: np.ndarray[Any, Any]) -> None:
    """Keep some rows with their answers, after proving that the stored model gives the same ones."""
    stored = np.asarray(mlflow.pyfunc.load_model(model_uri).predict(rows))
    if not np.allclose(stored, answers, rtol=0, atol=1e-12):
        raise Problem("the stored model does not predict what the fitted one does: it is not used")
    split = json.loads(rows.to_json(orient="split", index=False, double_precision=15))
    mlflow.log_dict({"dataframe_split": split, "predictions": stored.tolist()}, GOLDEN)
