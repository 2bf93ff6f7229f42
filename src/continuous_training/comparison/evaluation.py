"""Evaluation of predictions on labelled rows: scikit-learn's scorers, and the calibration error."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import brier_score_loss, get_scorer, log_loss

from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.comparison.ranking import NDCG, score_groups
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

CALIBRATION_BINS = 10
ROWS_AT_ONCE = 100_000  # that a model predicts
BOOLEANS = np.array([False, True])
PROBABILITY_LOSSES = {"neg_log_loss": log_loss, "neg_brier_score": brier_score_loss}


class _Predictions(BaseEstimator):  # type: ignore[misc]
    """Predictions as an estimator whose inputs are row numbers, so that scorers need no new prediction."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    def __sklearn_is_fitted__(self) -> bool:
        return True


class RegressorPredictions(RegressorMixin, _Predictions):  # type: ignore[misc]
    """The predictions of a regressor, of shape (rows,), or (rows, targets) if it predicts several targets."""

    def predict(self, rows: NDArray[np.int_]) -> NDArray[Any]:
        """Return the predictions for these rows."""
        return self.values[rows]

    def take(self, rows: NDArray[np.int_]) -> RegressorPredictions:
        """Return the predictions for these rows as a new object."""
        return RegressorPredictions(self.values[rows])


class ClassifierPredictions(ClassifierMixin, _Predictions):  # type: ignore[misc]
    """The predicted probabilities of a classifier, of shape (rows, classes)."""

    def __init__(self, values: NDArray[Any], classes_: NDArray[Any]) -> None:
        super().__init__(values)
        self.classes_ = classes_

    def predict_proba(self, rows: NDArray[np.int_]) -> NDArray[Any]:
        """Return the probabilities for these rows."""
        return self.values[rows]

    def predict(self, rows: NDArray[np.int_]) -> NDArray[Any]:
        """Return the most probable class for these rows."""
        most_probable: NDArray[Any] = self.classes_[self.values[rows].argmax(axis=1)]
        return most_probable

    def take(self, rows: NDArray[np.int_]) -> ClassifierPredictions:
        """Return the predictions for these rows as a new object."""
        return ClassifierPredictions(self.values[rows], self.classes_)

    def among(self, classes: NDArray[Any]) -> ClassifierPredictions:
        """Return the probabilities of some of the classes, if it is known that one of these is true.

        They are divided by their sum. Where all are 0, they become equal.
        """
        values = self.values[:, [int(np.flatnonzero(self.classes_ == name)[0]) for name in classes]]
        total = values.sum(axis=1, keepdims=True)
        equal = np.full_like(values, 1 / len(classes))
        return ClassifierPredictions(np.divide(values, total, out=equal, where=total > 0), classes)


Predictions = RegressorPredictions | ClassifierPredictions


def predict(
    estimator: Any,  # noqa: ANN401
    rows: pd.DataFrame,
    task: Literal["classification", "regression"],
    targets: int = 1,
) -> Predictions:
    """Return an estimator's predictions for rows.

    Args:
        estimator: a fitted estimator.
        rows: the features, of shape (rows, features).
        task: decides which method predicts.
        targets: how many columns it predicts.

    Raises:
        UserError: they are not of the right shape, or not all are finite numbers.
    """
    is_classifier = task == "classification"
    method = estimator.predict_proba if is_classifier else estimator.predict
    values = np.concatenate([np.asarray(method(part)) for part in split_rows(rows)])
    if len(values) != len(rows):
        raise UserError(f"the model returns {len(values):,} predictions for {len(rows):,} rows")
    return as_predictions(values, np.asarray(estimator.classes_) if is_classifier else None, targets)


def split_rows(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield rows in parts that are predicted at once: what a model makes of a part needs memory, too."""
    for start in range(0, max(1, len(rows)), ROWS_AT_ONCE):
        yield rows.iloc[start : start + ROWS_AT_ONCE]


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Return the predictions of one model for parts of rows as one object."""
    values = np.concatenate([part.values for part in parts])
    first = parts[0]
    if isinstance(first, ClassifierPredictions):
        return ClassifierPredictions(values, first.classes_)
    return RegressorPredictions(values)


def as_predictions(values: NDArray[Any], classes: NDArray[Any] | None, targets: int = 1) -> Predictions:
    """Return the predictions of a classifier with these classes, or of a regressor of so many targets.

    Raises:
        UserError: they are not of the right shape, or not all are finite numbers.
    """
    outputs = targets if classes is None else len(classes)
    shape = (len(values),) if classes is None and targets == 1 else (len(values), outputs)
    if values.shape != shape:
        raise UserError(f"the model returns predictions of shape {values.shape}, not {shape}")
    if not_finite := len(values) - int(np.isfinite(values).reshape(len(values), -1).all(axis=1).sum()):
        raise UserError(f"the model predicts NaN or infinite values for {not_finite:,} of {len(values):,} rows")
    return RegressorPredictions(values) if classes is None else ClassifierPredictions(values, classes)


def check_targets(predictions: Predictions, truth: GroundTruth) -> None:
    """Check that a regressor predicts as many targets as the rows have: numpy might broadcast others.

    Raises:
        UserError: it does not.
    """
    shapes = [predictions.values.shape[1:], truth.labels.shape[1:]]
    if isinstance(predictions, RegressorPredictions) and shapes[0] != shapes[1]:
        outputs, targets = (shape[0] if shape else 1 for shape in shapes)
        raise UserError(f"the model predicts {outputs} and not {targets} targets")


def split_targets(predictions: Predictions, truth: GroundTruth) -> list[tuple[RegressorPredictions, GroundTruth]]:
    """Return the predictions and the ground truth of each of several targets on its own."""
    return [
        (RegressorPredictions(predictions.values[:, place]), replace(truth, labels=truth.labels[:, place]))
        for place in range(truth.labels.shape[1])
    ]


def score(name: str, predictions: Predictions, truth: ArrayLike | GroundTruth) -> float:
    """Score predictions; higher is better (losses are negative).

    Args:
        name: of a scorer of scikit-learn, or of a function of the ground truth.
        predictions: for the rows.
        truth: the ground truth of the rows, or their labels, of shape (rows,) or (rows, targets).

    Raises:
        UserError: there is no such metric, or it cannot be computed.
    """
    truth = GroundTruth.of_labels(truth)
    check_targets(predictions, truth)
    try:
        value = apply_scorer(name, predictions, np.arange(len(truth)), truth)
    except ValueError as error:
        classes = predictions.classes_ if isinstance(predictions, ClassifierPredictions) else np.array([])
        missing = [str(value) for value in classes[~np.isin(classes, truth.labels)]]
        rows = f" on rows without the class {', '.join(missing)}" if missing else ""
        raise UserError(f"the metric {name} cannot be computed{rows}: {error}") from error
    if name in truth.functions and not np.isfinite(value):
        raise UserError(f"the metric {name} cannot be computed: {truth.functions[name].reference} returned {value}")
    if np.isnan(value):
        raise UserError(f"the metric {name} is not defined on these {len(truth):,} rows: is there one class only?")
    return value


def apply_scorer(name: str, predictions: Predictions, rows: NDArray[np.int_], truth: GroundTruth) -> float:
    """Score the predictions for some rows.

    The second of two classes is True: scorers such as f1 and average_precision have no other way to know the positive
    class of texts. A loss of probabilities is told all classes: it is defined for rows that lack one.

    Args:
        name: of a scorer of scikit-learn, or of a function of the ground truth.
        predictions: for all rows.
        rows: the numbers of these rows.
        truth: the ground truth of all rows.

    Raises:
        ValueError: there is no such scorer, or it cannot score these predictions.
        UserError: a function of the team's own fails.
    """
    labels, values = truth.labels[rows], predictions.values
    if isinstance(predictions, ClassifierPredictions):
        classes = predictions.classes_
        if len(classes) == 2 and np.isin(labels, classes).all():
            predictions, labels = ClassifierPredictions(values, BOOLEANS), labels == classes[1]
            values = values[:, 1]
        elif len(classes) > 2 and name in PROBABILITY_LOSSES:
            return -float(PROBABILITY_LOSSES[name](labels, values[rows], labels=classes))
    if name == NDCG and truth.groups is not None:
        scores = score_groups(labels, values[rows], truth.groups[rows]).scores
        return float(scores.mean()) if len(scores) else np.nan
    if function := truth.functions.get(name):
        frame = truth.rows.take(rows) if "rows" in function.options else truth.rows
        return function.score(labels, values[rows], truth.weights[rows], frame)
    return float(get_scorer(name)(predictions, rows, labels))


def calibration_error(predictions: Predictions, labels: ArrayLike) -> float:
    """Return the mean error of predictions over ten bins with as many rows each, in the unit of the predictions.

    A classifier's prediction is the probability of the second of two classes or, of more, that of the most probable
    class (Guo et al., On Calibration of Modern Neural Networks, 2017). Of several targets it is the mean of their
    errors.
    """
    y_true = np.asarray(labels)
    if y_true.ndim > 1:
        targets = split_targets(predictions, GroundTruth.of_labels(y_true))
        return float(np.mean([calibration_error(each, truth.labels) for each, truth in targets]))
    if not isinstance(predictions, ClassifierPredictions):
        predicted, observed = predictions.values, y_true
    elif len(predictions.classes_) == 2:
        predicted, observed = predictions.values[:, 1], y_true == predictions.classes_[1]
    else:
        predicted = predictions.values.max(axis=1)
        observed = y_true == predictions.predict(np.arange(len(y_true)))
    order = np.argsort(predicted, kind="stable")
    errors = [abs(np.sum(predicted[rows] - observed[rows])) for rows in np.array_split(order, CALIBRATION_BINS)]
    return float(sum(errors) / len(y_true))
