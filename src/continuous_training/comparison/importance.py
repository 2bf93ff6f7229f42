"""Permutation importance: by how much the metric worsens when the values of one feature are shuffled among the rows.

Breiman, Random Forests, Machine Learning 45 (2001), section 10. Both models predict the same shuffled rows, each in its
own process, so their values can be compared. The importance is that of a feature for a model, and not for the target;
it decides nothing.

https://scikit-learn.org/stable/modules/permutation_importance.html
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from continuous_training.comparison import evaluation
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.documents import CorrelatedFeatures, FeatureImportance, Importance

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from continuous_training.comparison.stored_model import StoredModel

SEED = 0
ROWS = 2000  # a sample: enough to rank features
CLASS_ROWS = 100  # of each class, if there are as many: a metric of a rare class needs some of its rows
REPEATS = 3  # shuffles of each feature, whose mean is its importance
SECONDS = 5.0  # after which the other features are left out
CORRELATED = 0.9  # rank correlation from which on two features stand in for each other


def measure_importance(
    metric: str,
    candidate: StoredModel,
    champion: StoredModel | None,
    rows: pd.DataFrame,
    truth: ArrayLike | GroundTruth,
    *,
    by_class: bool,
    seconds: float = SECONDS,
) -> Importance:
    """Measure the importance of the input columns of both models, one after the other until the time is over.

    Args:
        metric: the scorer that decides.
        candidate: the candidate, which predicts `rows`.
        champion: the champion, which predicts the same rows, if there is one.
        rows: the fresh rows, of shape (rows, columns).
        truth: their ground truth, or their labels, of shape (rows,).
        by_class: whether the labels are classes.
        seconds: the time after which no other feature is begun.

    Raises:
        UserError: a model cannot predict shuffled rows, or the metric cannot be computed on the sample.
    """
    start = time.monotonic()
    models = [candidate, champion] if champion else [candidate]
    truth = GroundTruth.of_labels(truth)
    sample = sample_rows(truth.labels, by_class=by_class)
    scores = [evaluation.score(metric, model.predictions.take(sample), truth.take(sample)) for model in models]
    names = list(dict.fromkeys(name for model in models for name in model.input_columns))
    frame = rows.iloc[sample].reset_index(drop=True)
    repeated = truth.take(np.tile(sample, REPEATS))
    features: list[FeatureImportance] = []
    for number, name in enumerate(names):
        if features and time.monotonic() - start > seconds:
            break
        shuffled = shuffle(frame, name, number)
        decreases = [
            score - evaluation.score(metric, model.predict(shuffled), repeated) if name in model.input_columns else None
            for model, score in zip(models, scores, strict=True)
        ]
        features.append(FeatureImportance(name=name, candidate=decreases[0], champion=(*decreases, None)[1]))
    return Importance(
        metric=metric,
        rows=len(sample),
        left_out=len(names) - len(features),
        features=sorted(features, key=lambda feature: -feature.largest),
        correlated=find_correlated(frame[[feature.name for feature in features]]),
    )


def sample_rows(labels: ArrayLike, *, by_class: bool) -> NDArray[np.intp]:
    """Return the positions of a sample, in ascending order: the same for the same labels.

    Args:
        labels: of shape (rows,) or (rows, targets).
        by_class: add rows of classes of which the sample has fewer than `CLASS_ROWS`.
    """
    values = np.asarray(labels)
    order = np.random.default_rng(SEED).permutation(len(values))
    sample = order[:ROWS]
    if by_class:
        classes = values[order]
        rare = [np.flatnonzero(classes == value)[:CLASS_ROWS] for value in pd.unique(classes)]
        sample = np.union1d(sample, order[np.concatenate(rare)])
    return np.sort(sample)


def shuffle(frame: pd.DataFrame, name: str, seed: int) -> pd.DataFrame:
    """Return the rows `REPEATS` times, with the values of one column shuffled within each repetition."""
    random = np.random.default_rng((SEED, seed))
    order = np.concatenate([random.permutation(len(frame)) for _ in range(REPEATS)])
    repeated = frame.iloc[np.tile(np.arange(len(frame)), REPEATS)].reset_index(drop=True)
    repeated[name] = frame[name].iloc[order].reset_index(drop=True)
    return repeated


def find_correlated(frame: pd.DataFrame) -> list[CorrelatedFeatures]:
    """Return the pairs of numeric columns whose ranks are strongly correlated, the strongest first.

    Shuffling one of them understates both: the model still sees the other one.
    """
    numbers = frame.select_dtypes("number")
    ranks = numbers.rank().to_numpy(dtype=np.float64)
    ranks = np.where(np.isnan(ranks), (numbers.count().to_numpy() + 1) / 2, ranks)  # a null is in the middle
    varying = np.flatnonzero(np.ptp(ranks, axis=0) > 0)
    if len(varying) < 2:
        return []
    correlation = np.corrcoef(ranks[:, varying], rowvar=False)
    pairs = zip(*np.nonzero(np.triu(abs(correlation) >= CORRELATED, k=1)), strict=True)
    names = numbers.columns[varying].astype(str).tolist()
    found = [CorrelatedFeatures(names=(names[a], names[b]), correlation=float(correlation[a, b])) for a, b in pairs]
    return sorted(found, key=lambda pair: -abs(pair.correlation))
