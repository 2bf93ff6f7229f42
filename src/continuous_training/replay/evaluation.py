"""The scores of a replay's models on the rows of the month after their training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from continuous_training.comparison import bootstrap, evaluation
from continuous_training.comparison.evaluation import ClassifierPredictions, RegressorPredictions
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.comparison.stored_model import open_model
from continuous_training.data.snapshots import read_snapshot
from continuous_training.documents import Run, Stopwatch
from continuous_training.replay.month_results import Evaluation
from continuous_training.replay.months import next_month
from continuous_training.replay.policies import follow_policies
from continuous_training.stages.snapshot import take_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.replay.month_results import RunResult, TrainedModel
    from continuous_training.settings import Settings


def evaluate_models(settings: Settings, runs: Sequence[RunResult]) -> Evaluation | None:
    """Score every model trained so far on the month of the last run; None without a champion.

    Raises:
        UserError: the month has no rows, or a model cannot be loaded or scored.
    """
    champions = follow_policies(runs)[-1]
    if champions.gate is None:
        return None
    rows = _read_month(settings, runs[-1].start)
    truth = GroundTruth.of(rows, settings)
    predictions = {model.name: _predict(model, settings, rows) for run in runs for model in run.models}
    others = {champions.never, champions.always, champions.alternative} - {champions.gate, None}
    differences = {
        str(other): _resample_differences(predictions[champions.gate], predictions[str(other)], rows, settings)
        for other in others
    }
    scores = {name: evaluation.score(settings.compare.metric, values, truth) for name, values in predictions.items()}
    return Evaluation(rows=len(rows), scores=scores, resampled_differences=differences)


def evaluate_deployments(
    settings: Settings, month: datetime, gate: TrainedModel, deployments: Sequence[tuple[datetime, TrainedModel]]
) -> tuple[float, list[float | None]]:
    """Score successive champions on a month's rows, each on the rows of its deployment.

    Args:
        settings: the settings of the model.
        month: its first moment.
        gate: the gate's champion.
        deployments: each champion with the start of its deployment; the first one not after the month's start.

    Returns:
        Their common score, and the gate's score less it on each resample.

    Raises:
        UserError: the month has no rows, or a model cannot be loaded or scored.
    """
    rows = _read_month(settings, month)
    starts = np.array([since for since, _ in deployments], dtype="datetime64[us]")
    indexes = np.searchsorted(starts, rows[settings.data.time].to_numpy(), side="right") - 1
    predictions = [(_predict(deployments[index][1], settings, rows), indexes == index) for index in np.unique(indexes)]
    combined = _combine(predictions)
    score = evaluation.score(settings.compare.metric, combined, GroundTruth.of(rows, settings))
    return score, _resample_differences(_predict(gate, settings, rows), combined, rows, settings)


def _predict(trained: TrainedModel, settings: Settings, rows: pd.DataFrame) -> Predictions:
    with open_model(trained.uri, trained.run_id, Run.read().model, settings, rows) as model:
        return model.predictions


def _combine(predictions: Sequence[tuple[Predictions, NDArray[np.bool_]]]) -> Predictions:
    """Combine the predictions of models, each for the rows of its mask; the gate ensures that their classes are equal.

    Args:
        predictions: for each model its predictions for all rows, and a mask of shape (rows,).
    """
    first = predictions[0][0]
    values = np.array(first.values)
    for model_predictions, mask in predictions:
        values[mask] = model_predictions.values[mask]
    if isinstance(first, ClassifierPredictions):
        return ClassifierPredictions(values, first.classes_)
    return RegressorPredictions(values)


def _resample_differences(
    gate: Predictions, other: Predictions, rows: pd.DataFrame, settings: Settings
) -> list[float | None]:
    """Return the gate's score less another model's on each resample; None where a resample has no score."""
    limits = settings.compare
    differences = bootstrap.differences(
        limits.metric,
        gate,
        other,
        GroundTruth.of(rows, settings),
        resamples=limits.resamples,
        groups=bootstrap.draw_groups(rows, settings),
    )
    return [None if np.isnan(difference) else float(difference) for difference in differences]


def _read_month(settings: Settings, month: datetime) -> pd.DataFrame:
    """Return the rows of a month: the fresh rows of a snapshot at its end."""
    run = Run.read()
    end = next_month(month)
    data = settings.data.model_copy(update={"label_delay_days": 0, "fresh_days": (end - month).days})
    run_at_end = run.model_copy(update={"as_of": end})
    snapshot = take_snapshot(run_at_end, settings.model_copy(update={"data": data}), Stopwatch(run.build_tag))
    return read_snapshot(snapshot.fresh.path, data)
