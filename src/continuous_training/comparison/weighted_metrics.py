"""Scores as functions of how often each row counts: what a bootstrap asks a thousand times over.

Whatever does not depend on the counts, such as the order of the rows by probability, is made once. The scores are
those of scikit-learn's scorers of the same names, which the tests hold them against.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import get_scorer

from continuous_training.comparison.evaluation import RecordedClassifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Recorded

    Counts = NDArray[np.int16]
    Truth = NDArray[Any]

Score = Callable[["Counts"], float]


def counted(metric: str, model: Recorded, truth: Truth) -> Score:
    """Return the score as a function of the rows' counts, of shape (rows,); more is better, NaN is not defined.

    A metric without a form of its own here is scikit-learn's own, asked about rows that are repeated: right for every
    scorer, and tens of times slower.
    """
    binary = isinstance(model, RecordedClassifier) and len(model.classes_) == 2
    if binary and metric in RANKED:
        return RANKED[metric](model.answers[:, 1], truth == model.classes_[1])
    if metric == "neg_root_mean_squared_error":
        squared = counted("neg_mean_squared_error", model, truth)
        return lambda counts: -((-squared(counts)) ** 0.5)
    gains = _gains(metric, model, truth, binary=binary)
    return _repeated(metric, model, truth) if gains is None else _mean(gains)


def _roc_auc(probability: NDArray[np.float64], positive: NDArray[np.bool_]) -> Score:
    """Return the area under the ROC curve: the share of pairs, a positive and a negative, in the right order.

    Ties count a half (Hanley and McNeil, Radiology 143, 1982). In the order of their probabilities, the counts of the
    negatives are summed up once, and each positive reads there how many are below it.
    """
    above, below = (np.flatnonzero(rows)[np.argsort(probability[rows])] for rows in (positive, ~positive))
    first, last = (np.searchsorted(probability[below], probability[above], side) for side in ("left", "right"))
    tied = not np.array_equal(first, last)
    passed = np.zeros(len(below) + 1, dtype=np.int64)

    def score(counts: Counts) -> float:
        np.cumsum(counts.take(below), out=passed[1:])
        weight = counts.take(above).astype(np.float64)
        pairs = weight.sum() * passed[-1]
        beaten = (passed.take(first) + passed.take(last)) / 2 if tied else passed.take(first)
        return float(weight @ beaten / pairs) if pairs else np.nan

    return score


def _average_precision(probability: NDArray[np.float64], positive: NDArray[np.bool_]) -> Score:
    """Return the precision at each threshold, weighted by the recall that it adds."""
    order = np.argsort(-probability)
    is_positive = positive[order]
    ends = np.flatnonzero(np.diff(probability[order], append=np.nan) != 0)

    def score(counts: Counts) -> float:
        drawn = counts.take(order)
        rows = np.cumsum(drawn, dtype=np.int64)[ends]
        hits = np.cumsum(np.where(is_positive, drawn, 0), dtype=np.int64)[ends]
        if not hits[-1]:
            return np.nan
        return float(np.diff(hits, prepend=0) @ (hits / np.maximum(rows, 1)) / hits[-1])

    return score


RANKED = {"roc_auc": _roc_auc, "average_precision": _average_precision}


def _gains(metric: str, model: Recorded, truth: Truth, *, binary: bool) -> NDArray[np.float64] | None:
    """Return each row's own score, if the metric is the mean of them; else None."""
    gains: NDArray[np.float64] | None = None
    if isinstance(model, RecordedClassifier):
        rows = np.arange(len(truth))
        if metric == "accuracy":
            gains = (model.predict(rows) == truth).astype(np.float64)
        elif metric == "neg_log_loss":
            tiny = np.finfo(model.answers.dtype).eps
            gains = np.log(np.clip(model.answers[rows, np.searchsorted(model.classes_, truth)], tiny, 1 - tiny))
        elif metric == "neg_brier_score" and binary:
            gains = -np.square(model.answers[:, 1] - (truth == model.classes_[1]))
    elif metric == "neg_mean_squared_error":
        gains = -np.square(truth - model.answers)
    elif metric == "neg_mean_absolute_error":
        gains = -np.abs(truth - model.answers)
    return gains


def _mean(gains: NDArray[np.float64]) -> Score:
    return lambda counts: float(counts.astype(np.float64) @ gains / counts.sum(dtype=np.int64))


def _repeated(metric: str, model: Recorded, truth: Truth) -> Score:
    scorer, every = get_scorer(metric), np.arange(len(truth))

    def score(counts: Counts) -> float:
        rows = np.repeat(every, counts)
        try:
            return float(scorer(model, rows, truth[rows]))
        except ValueError:  # a class that the metric needs was not drawn
            return np.nan

    return score
