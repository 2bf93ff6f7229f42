"""The earlier fit of a recipe, on older rows than the candidate's: its predictions for the fresh rows, as files.

What it predicts is all that is needed of it: what the candidate gained by its more recent rows.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from continuous_training.comparison.evaluation import ClassifierPredictions, as_predictions
from continuous_training.documents import Value
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.comparison.evaluation import Predictions

FOLDER, DESCRIPTION, PREDICTIONS = "earlier_fit", "description.json", "predictions.npy"


class EarlierFit(Value):
    """What is known of the earlier fit.

    Attributes:
        rows: on how many it was fitted.
        classes: the names of a classifier's classes.
        problem: why there is none; then nothing else is known.
    """

    rows: int = 0
    classes: list[str] | None = None
    problem: str | None = None


def save(client: MlflowClient, run_id: str, fit: EarlierFit, predictions: Predictions | None) -> None:
    """Store the earlier fit in the MLflow run of a refit."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / DESCRIPTION).write_text(fit.model_dump_json(), encoding="utf-8")
        if predictions is not None:
            np.save(folder / PREDICTIONS, np.asarray(predictions.values), allow_pickle=False)
        client.log_artifacts(run_id, temporary, FOLDER)


def describe(rows: int, predictions: Predictions) -> EarlierFit:
    """Return the description of an earlier fit on so many rows."""
    is_classifier = isinstance(predictions, ClassifierPredictions)
    return EarlierFit(rows=rows, classes=[str(name) for name in predictions.classes_] if is_classifier else None)


def load(client: MlflowClient, run_id: str, candidate: Predictions) -> tuple[EarlierFit, Predictions | None]:
    """Return the earlier fit and its predictions, in the form of the candidate's for the same rows.

    Raises:
        UserError: they cannot be read, or are of other rows or targets.
    """
    with tempfile.TemporaryDirectory() as temporary:
        try:
            folder = Path(client.download_artifacts(run_id, FOLDER, temporary))
            fit = EarlierFit.model_validate_json((folder / DESCRIPTION).read_bytes())
            values = None if fit.problem else np.load(folder / PREDICTIONS, allow_pickle=False)
        except (ValidationError, OSError, ValueError) as error:
            raise UserError(f"the earlier fit in MLflow run {run_id} cannot be read: {error}") from error
        except Exception as error:  # of MLflow's stores
            raise UserError(f"MLflow run {run_id} has no earlier fit: {error}") from error
    if values is None:
        return fit, None
    if len(values) != len(candidate.values):
        raise UserError(
            f"the earlier fit in MLflow run {run_id} predicts {len(values):,} rows, not those that are fresh"
        )
    classes = candidate.classes_ if isinstance(candidate, ClassifierPredictions) else None
    if classes is not None and fit.classes != [str(name) for name in classes]:
        return EarlierFit(problem=f"it knows the classes {', '.join(fit.classes or [])} only"), None
    targets = 1 if candidate.values.ndim == 1 else candidate.values.shape[1]
    return fit, as_predictions(values, classes, targets)
