"""What models are worth on rows with known answers: any scikit-learn scorer, and the interval of a difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.calibration import calibration_curve
from sklearn.metrics import get_scorer, roc_curve

from continuous_training import progress
from continuous_training.documents import Curve
from continuous_training.problem import Problem

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

POINTS = 100  # of a curve, enough for a plot


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


Recorded = RecordedRegressor | RecordedClassifier


def predict(estimator: Any, rows: pd.DataFrame, task: Literal["classification", "regression"]) -> Recorded:  # noqa: ANN401
    """Ask an estimator once about all rows and record its answers."""
    if task == "classification":
        return RecordedClassifier(estimator.predict_proba(rows), estimator.classes_)
    return RecordedRegressor(estimator.predict(rows))


def score(name: str, model: Recorded, truth: ArrayLike) -> float:
    """Score recorded answers with a scikit-learn scorer; more is always better (losses are negative).

    Raises:
        Problem: scikit-learn knows no such scorer, or it cannot score these answers.
    """
    known = np.asarray(truth)
    try:
        value = float(get_scorer(name)(model, np.arange(len(known)), known))
    except ValueError as error:
        raise Problem(f"the metric {name} cannot be had: {error}") from error
    if np.isnan(value):
        raise Problem(f"the metric {name} is not defined on these {len(known):,} rows: is there one class only?")
    return value


def difference(
    name: str, candidate: Recorded, champion: Recorded, truth: ArrayLike, *, confidence: float, resamples: int
) -> tuple[float, float]:
    """Return the interval of score(candidate) - score(champion): a paired percentile bootstrap of the rows, seeded.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. Both models are scored on the same
    resampled rows, so what makes a row hard for both cancels out.
    """
    known = np.asarray(truth)
    scorer = get_scorer(name)
    random = np.random.default_rng(0)
    differences = np.empty(resamples)
    with progress.bar("resamples", resamples) as advance:
        for number in range(resamples):
            rows = random.integers(len(known), size=len(known))
            differences[number] = scorer(candidate, rows, known[rows]) - scorer(champion, rows, known[rows])
            advance(1)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(differences, [tail, 1 - tail])
    return float(low), float(high)


def curves(model: Recorded, truth: ArrayLike, whose: Literal["candidate", "champion"]) -> list[Curve]:
    """Return the ROC curve and the calibration curve of a binary classifier; nothing for other models."""
    if not isinstance(model, RecordedClassifier) or len(model.classes_) != 2:
        return []
    positive = np.asarray(truth) == model.classes_[1]
    probability = model.answers[:, 1]
    false_alarms, hits, _ = roc_curve(positive, probability)
    grid = np.linspace(0, 1, POINTS)
    happened, predicted = calibration_curve(positive, probability, n_bins=10, strategy="quantile")
    return [
        Curve(kind="roc", model=whose, x=grid.tolist(), y=np.interp(grid, false_alarms, hits).tolist()),
        Curve(kind="calibration", model=whose, x=predicted.tolist(), y=happened.tolist()),
    ]
