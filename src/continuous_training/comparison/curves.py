"""What predictions look like beside the labels: the curves and the confusion table of one model, for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, roc_curve

from continuous_training.comparison.evaluation import CALIBRATION_BINS, ClassifierPredictions, split_targets
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.documents import Confusion, Curve

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.documents import ModelRole

CURVE_POINTS = 100  # enough for a plot
PERIODS = 28  # of the fresh rows, in which their residuals are averaged
DECILES = (0.1, 0.9)
MAX_CLASSES = 12  # in a table: the rarest of more classes are counted as one
OTHERS = "others"


def compute_curves(
    predictions: Predictions, labels: ArrayLike, times: pd.Series, model: ModelRole, targets: Sequence[str] = ()
) -> list[Curve]:
    """Return the curves of a model on labelled rows; none of a classifier of more than two classes.

    Args:
        predictions: for the rows.
        labels: of shape (rows,), or (rows, targets).
        times: the time of each row, of shape (rows,).
        model: which one it is.
        targets: the names of several targets, of which each has its own curves.
    """
    y_true = np.asarray(labels)
    if y_true.ndim > 1:
        return [
            curve.model_copy(update={"target": name})
            for name, (values, truth) in zip(
                targets, split_targets(predictions, GroundTruth.of_labels(y_true)), strict=True
            )
            for curve in compute_curves(values, truth.labels, times, model)
        ]
    if not isinstance(predictions, ClassifierPredictions):
        seconds = times.to_numpy().astype("datetime64[us]").astype(np.int64) / 1e6
        predicted = predictions.values.astype(np.float64)
        return [
            _binned_curve("predicted", model, predicted, y_true, _equal_counts(predicted)),
            _binned_curve("residuals", model, seconds, y_true - predicted, _equal_periods(seconds)),
        ]
    if len(predictions.classes_) != 2:
        return []
    positive = y_true == predictions.classes_[1]
    probability = predictions.values[:, 1]
    false_positive_rate, true_positive_rate, _ = roc_curve(positive, probability)
    grid = np.linspace(0, 1, CURVE_POINTS)
    observed, predicted = calibration_curve(positive, probability, n_bins=CALIBRATION_BINS, strategy="quantile")
    return [
        Curve(
            kind="roc",
            model=model,
            x=grid.tolist(),
            y=np.interp(grid, false_positive_rate, true_positive_rate).tolist(),
        ),
        Curve(kind="calibration", model=model, x=predicted.tolist(), y=observed.tolist()),
    ]


def count_confusions(predictions: Predictions, labels: ArrayLike, model: ModelRole) -> Confusion | None:
    """Count the rows of each class by the class that a model predicts; None for two classes or a regression."""
    if not isinstance(predictions, ClassifierPredictions) or len(predictions.classes_) == 2:
        return None
    y_true = np.asarray(labels).astype(str)
    y_predicted = predictions.predict(np.arange(len(y_true))).astype(str)
    names, counts = np.unique(np.concatenate([y_true, predictions.classes_.astype(str)]), return_counts=True)
    if len(names) > MAX_CLASSES:
        names = np.sort(names[np.argsort(-counts, kind="stable")[: MAX_CLASSES - 1]])
        y_true, y_predicted = (np.where(np.isin(y, names), y, OTHERS) for y in (y_true, y_predicted))
        names = np.append(names, OTHERS)
    table = confusion_matrix(y_true, y_predicted, labels=names)
    return Confusion(model=model, classes=names.tolist(), counts=table.tolist())


def _binned_curve(
    kind: Literal["predicted", "residuals"],
    model: ModelRole,
    x: NDArray[np.float64],
    y: NDArray[Any],
    bins: Sequence[NDArray[np.intp]],
) -> Curve:
    """Return the means of x and y in each bin, and the deciles of y."""
    values = [y[rows].astype(np.float64) for rows in bins]
    low, high = np.array([np.quantile(each, DECILES) for each in values]).T
    return Curve(
        kind=kind,
        model=model,
        x=[float(x[rows].mean()) for rows in bins],
        y=[float(each.mean()) for each in values],
        low=low.tolist(),
        high=high.tolist(),
    )


def _equal_counts(values: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Return bins of as many rows each, in the order of the values."""
    order = np.argsort(values, kind="stable")
    return [rows for rows in np.array_split(order, CALIBRATION_BINS) if len(rows)]


def _equal_periods(seconds: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Return the rows of each of equally long periods that has some."""
    edges = np.linspace(seconds.min(), seconds.max(), PERIODS + 1)
    periods = np.clip(np.searchsorted(edges, seconds, side="right") - 1, 0, PERIODS - 1)
    return [np.flatnonzero(periods == period) for period in np.unique(periods)]
