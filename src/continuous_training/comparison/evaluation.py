"""What models are worth on rows with known answers: any scikit-learn scorer, and how far predictions are off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.calibration import calibration_curve
from sklearn.metrics import get_scorer, roc_curve

from continuous_training.documents import Curve
from continuous_training.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

POINTS = 100  # of a curve, enough for a plot
BINS = 10  # of a calibration


class _Recorded(BaseEstimator):  # type: ignore[misc]
    """An estimator whose inputs are row numbers: scorers can ask it again and again without any new prediction."""

    def __init__(self, answers: NDArray[Any]) -> None:
        self.answers = answers

    def __sklearn_is_fitted__(self) -> bool:
        return True


class RecordedRegressor(RegressorMixin, _Recorded):  # type: ignore[misc]
    """The recorded answers of a regressor, of shape (rows,)."""

    def predict(self, rows: NDArray[np.int_]) -> NDArray[Any]:
        """Return what was predicted for these rows."""
        return self.answers[rows]

    def of(self, rows: NDArray[np.int_]) -> RecordedRegressor:
        """Return the records of some rows, numbered anew."""
        return RecordedRegressor(self.answers[rows])


class RecordedClassifier(ClassifierMixin, _Recorded):  # type: ignore[misc]
    """The recorded probabilities of a classifier, of shape (rows, classes)."""

    def __init__(self, answers: NDArray[Any], classes_: NDArray[Any]) -> None:
        super().__init__(answers)
        self.classes_ = classes_

    def predict_proba(self, rows: NDArray[np.int_]) -> NDArray[Any]:
        """Return the probabilities of these rows."""
        return self.answers[rows]

    def predict(self, rows: NDArray[np.int_]) -> NDArray[Any]:
        """Return the likeliest class of these rows."""
        likeliest: NDArray[Any] = self.classes_[self.answers[rows].argmax(axis=1)]
        return likeliest

    def of(self, rows: NDArray[np.int_]) -> RecordedClassifier:
        """Return the records of some rows, numbered anew."""
        return RecordedClassifier(self.answers[rows], self.classes_)


Recorded = RecordedRegressor | RecordedClassifier


def predict(estimator: Any, rows: pd.DataFrame, task: Literal["classification", "regression"]) -> Recorded:  # noqa: ANN401
    """Ask an estimator once about all rows and record its answers."""
    if task == "classification":
        return RecordedClassifier(estimator.predict_proba(rows), estimator.classes_)
    return RecordedRegressor(estimator.predict(rows))


def score(name: str, model: Recorded, truth: ArrayLike) -> float:
    """Score recorded answers with a scikit-learn scorer; more is always better (losses are negative).

    Raises:
        UserError: scikit-learn knows no such scorer, or it cannot score these answers.
    """
    known = np.asarray(truth)
    try:
        value = float(get_scorer(name)(model, np.arange(len(known)), known))
    except ValueError as error:
        raise UserError(f"the metric {name} cannot be had: {error}") from error
    if np.isnan(value):
        raise UserError(f"the metric {name} is not defined on these {len(known):,} rows: is there one class only?")
    return value


def calibration_error(model: Recorded, truth: ArrayLike) -> float:
    """Return by how much predictions are off, on average over ten bins with as many rows each, in their own unit.

    A classifier's prediction is the probability of the second of two classes or, of more, that of the likeliest class
    (Guo et al., On Calibration of Modern Neural Networks, 2017); a regressor's is its answer.
    """
    known = np.asarray(truth)
    if not isinstance(model, RecordedClassifier):
        predicted, happened = model.answers, known
    elif len(model.classes_) == 2:
        predicted, happened = model.answers[:, 1], known == model.classes_[1]
    else:
        predicted, happened = model.answers.max(axis=1), known == model.predict(np.arange(len(known)))
    order = np.argsort(predicted, kind="stable")
    off = [abs(np.sum(predicted[rows] - happened[rows])) for rows in np.array_split(order, BINS)]
    return float(sum(off) / len(known))


def curves(model: Recorded, truth: ArrayLike, whose: Literal["candidate", "champion"]) -> list[Curve]:
    """Return the ROC curve and the calibration curve of a binary classifier; nothing for other models."""
    if not isinstance(model, RecordedClassifier) or len(model.classes_) != 2:
        return []
    positive = np.asarray(truth) == model.classes_[1]
    probability = model.answers[:, 1]
    false_alarms, hits, _ = roc_curve(positive, probability)
    grid = np.linspace(0, 1, POINTS)
    happened, predicted = calibration_curve(positive, probability, n_bins=BINS, strategy="quantile")
    return [
        Curve(kind="roc", model=whose, x=grid.tolist(), y=np.interp(grid, false_alarms, hits).tolist()),
        Curve(kind="calibration", model=whose, x=predicted.tolist(), y=happened.tolist()),
    ]
