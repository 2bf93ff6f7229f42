"""Metrics as functions of the weights of the rows, which a bootstrap calls a thousand times.

What does not depend on the weights, such as the order of the rows by probability, is computed once. The values are
those of scikit-learn's scorers of the same names; the tests compare them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from continuous_training.comparison.evaluation import ClassifierPredictions, apply_scorer, check_targets, split_targets
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.comparison.ranking import NDCG, score_groups
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from continuous_training.comparison.evaluation import Predictions

    Weights = NDArray[np.int16]
    Labels = NDArray[Any]

WeightedMetric = Callable[["Weights"], float]


def weighted_metric(metric: str, predictions: Predictions, truth: ArrayLike | GroundTruth) -> WeightedMetric:
    """Return the metric as a function of the rows' weights, of shape (rows,); higher is better, NaN is undefined.

    The weights are how often the bootstrap draws each row. A metric that has no implementation here is scikit-learn's
    scorer, or the team's own function, on repeated rows: correct for every metric, and tens of times slower.

    Args:
        metric: its name.
        predictions: for the rows.
        truth: the ground truth of the rows, or their labels, of shape (rows,) or (rows, targets).

    Raises:
        UserError: the model does not predict as many targets as the rows have.
    """
    truth = GroundTruth.of_labels(truth)
    check_targets(predictions, truth)
    if metric in truth.functions:
        return _repeat_rows(metric, predictions, truth)
    if metric == NDCG and truth.groups is not None:
        groups = score_groups(truth.labels, predictions.values, truth.groups)
        return _weighted_mean(groups.scores, groups.rows)  # the rows of a group are drawn together
    if truth.labels.ndim > 1:
        return _mean_of_targets([weighted_metric(metric, *target) for target in split_targets(predictions, truth)])
    labels = truth.labels
    binary = isinstance(predictions, ClassifierPredictions) and len(predictions.classes_) == 2
    if binary and metric in RANKING_METRICS:
        return RANKING_METRICS[metric](predictions.values[:, 1], labels == predictions.classes_[1])
    if metric == "neg_root_mean_squared_error":
        neg_mean_squared_error = weighted_metric("neg_mean_squared_error", predictions, truth)
        return lambda weights: -((-neg_mean_squared_error(weights)) ** 0.5)
    scores = _row_scores(metric, predictions, labels, binary=binary)
    return _repeat_rows(metric, predictions, truth) if scores is None else _weighted_mean(scores)


def _mean_of_targets(metrics: Sequence[WeightedMetric]) -> WeightedMetric:
    """Return the mean of the metrics of single targets, as scikit-learn's `multioutput="uniform_average"`."""
    return lambda weights: sum(score(weights) for score in metrics) / len(metrics)


def _roc_auc(probability: NDArray[np.float64], positive: NDArray[np.bool_]) -> WeightedMetric:
    """Return the area under the ROC curve: the share of pairs of a positive and a negative that are ordered correctly.

    Ties count a half (Hanley and McNeil, Radiology 143, 1982). The weights of the negatives are summed up once in the
    order of their probabilities; each positive looks up the sum below it.
    """
    positives, negatives = (np.flatnonzero(rows)[np.argsort(probability[rows])] for rows in (positive, ~positive))
    first, last = (np.searchsorted(probability[negatives], probability[positives], side) for side in ("left", "right"))
    tied = not np.array_equal(first, last)
    cumulative = np.zeros(len(negatives) + 1, dtype=np.int64)

    def score(weights: Weights) -> float:
        np.cumsum(weights.take(negatives), out=cumulative[1:])
        positive_weights = weights.take(positives).astype(np.float64)
        pairs = positive_weights.sum() * cumulative[-1]
        below = (cumulative.take(first) + cumulative.take(last)) / 2 if tied else cumulative.take(first)
        return float(positive_weights @ below / pairs) if pairs else np.nan

    return score


def _average_precision(probability: NDArray[np.float64], positive: NDArray[np.bool_]) -> WeightedMetric:
    """Return the mean of the precision at each threshold, weighted by the increase in recall."""
    order = np.argsort(-probability)
    is_positive = positive[order]
    ends = np.flatnonzero(np.diff(probability[order], append=np.nan) != 0)

    def score(weights: Weights) -> float:
        ordered = weights.take(order)
        rows = np.cumsum(ordered, dtype=np.int64)[ends]
        hits = np.cumsum(np.where(is_positive, ordered, 0), dtype=np.int64)[ends]
        if not hits[-1]:
            return np.nan
        return float(np.diff(hits, prepend=0) @ (hits / np.maximum(rows, 1)) / hits[-1])

    return score


RANKING_METRICS = {"roc_auc": _roc_auc, "average_precision": _average_precision}


def _row_scores(metric: str, predictions: Predictions, labels: Labels, *, binary: bool) -> NDArray[np.float64] | None:
    """Return the score of each row if the metric is their mean; else None."""
    scores: NDArray[np.float64] | None = None
    values = predictions.values
    if isinstance(predictions, ClassifierPredictions):
        rows = np.arange(len(labels))
        if metric == "accuracy":
            scores = (predictions.predict(rows) == labels).astype(np.float64)
        elif metric == "neg_log_loss":
            epsilon = np.finfo(values.dtype).eps
            scores = np.log(np.clip(values[rows, np.searchsorted(predictions.classes_, labels)], epsilon, 1 - epsilon))
        elif metric == "neg_brier_score" and binary:
            scores = -np.square(values[:, 1] - (labels == predictions.classes_[1]))
    elif metric == "neg_mean_squared_error":
        scores = -np.square(labels - values)
    elif metric == "neg_mean_absolute_error":
        scores = -np.abs(labels - values)
    return scores


def _weighted_mean(scores: NDArray[np.float64], rows: NDArray[np.intp] | None = None) -> WeightedMetric:
    """Return the mean of scores by the weights of their rows; each row has one if `rows` does not number them."""

    def score(weights: Weights) -> float:
        exact = (weights if rows is None else weights[rows]).astype(np.float64)
        total = exact.sum()
        return float(exact @ scores / total) if total else np.nan

    return score


def _repeat_rows(metric: str, predictions: Predictions, truth: GroundTruth) -> WeightedMetric:
    indexes = np.arange(len(truth))

    def score(weights: Weights) -> float:
        try:
            value = apply_scorer(metric, predictions, np.repeat(indexes, weights), truth)
        except (ValueError, UserError):  # the resample lacks a class that the metric needs
            return np.nan
        return value if np.isfinite(value) else np.nan

    return score
