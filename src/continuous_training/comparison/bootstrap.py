"""The paired bootstrap: the confidence interval of the difference between two models' metrics.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: percentile intervals. Both models are scored
on the same resampled rows, so what makes a row hard for both cancels out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from continuous_training import progress
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.comparison.weighted_metrics import weighted_metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.comparison.weighted_metrics import Weights
    from continuous_training.settings import Settings

CHUNK = 1 << 16  # rows: the size of each chunk's share is drawn first, then its rows, within the processor's cache
PERIODS = {"hour": "h", "day": "D", "week": "W"}


def time_groups(times: pd.Series, resample_by: Literal["row", "hour", "day", "week"]) -> NDArray[Any] | None:
    """Return the period of each row as its group for a block bootstrap; None if single rows are drawn.

    The rows of an hour or a day often share causes, such as the weather: drawn singly they would look like more
    evidence than they are.
    """
    return None if resample_by == "row" else times.to_numpy().astype(f"datetime64[{PERIODS[resample_by]}]")


def draw_groups(rows: pd.DataFrame, settings: Settings) -> NDArray[Any] | None:
    """Return the group of each row that the bootstrap draws as a whole, of shape (rows,); None if it draws rows."""
    data, resample_by = settings.data, settings.compare.resample_by
    if resample_by == "group":
        return pd.factorize(rows[str(data.group)], use_na_sentinel=False)[0]
    return time_groups(rows[data.time], resample_by)


def resample_weights(rows: int, resamples: int, groups: NDArray[Any] | None = None) -> Iterator[Weights]:
    """Yield the weights of each resample: how often each row is drawn, of shape (rows,). The seed is fixed.

    Args:
        rows: the number of rows to draw from, with replacement.
        resamples: the number of resamples.
        groups: the group of each row, of shape (rows,), to draw whole groups; None draws single rows.
    """
    if groups is None:
        random = np.random.default_rng(0)
        starts = np.arange(0, rows, CHUNK)
        sizes = np.diff(starts, append=rows)
        for _ in range(resamples):
            weights = np.empty(rows, dtype=np.int16)
            for start, size, count in zip(starts, sizes, random.multinomial(rows, sizes / rows), strict=True):
                places = random.integers(size, size=count, dtype=np.uint16)
                weights[start : start + size] = np.bincount(places, minlength=size)
            yield weights
        return
    labels, group = np.unique(groups, return_inverse=True)
    for weights in resample_weights(len(labels), resamples):
        yield weights.take(group)


def differences(
    metric: str,
    candidate: Predictions,
    champion: Predictions,
    truth: ArrayLike | GroundTruth,
    *,
    resamples: int,
    groups: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Return candidate minus champion on each resample, of shape (resamples,); NaN where a metric is not defined.

    The memory that it needs grows with the rows, not with the resamples.
    """
    truth = GroundTruth.of_labels(truth)
    score_candidate, score_champion = (weighted_metric(metric, model, truth) for model in (candidate, champion))
    values = np.empty(resamples)
    with progress.bar(f"resamples, {metric}", resamples) as advance:
        for number, weights in enumerate(resample_weights(len(truth), resamples, groups)):
            values[number] = score_candidate(weights) - score_champion(weights)
            advance(1)
    return values


def interval(
    differences: NDArray[np.float64], confidence: float, *, decisive: float | None = None, cases: int = 0
) -> tuple[float, float] | None:
    """Return the percentile interval of the differences.

    A higher confidence would need many more resamples. The ends then lie as much farther from the median as the
    quantiles of Student's t do.

    Args:
        differences: on the resamples, of shape (resamples,).
        confidence: for which the resamples suffice.
        decisive: the confidence of the interval, if it is higher.
        cases: the number of independent cases, at least 2, from which a resample is drawn.

    Returns:
        Both ends; None if the metric is undefined on so many resamples that they would be unreliable.
    """
    tail = (1 - confidence) / 2
    if np.isnan(differences).mean() > tail:
        return None
    low, median, high = np.nanquantile(differences, [tail, 0.5, 1 - tail])
    if decisive is None or decisive == confidence:
        return float(low), float(high)
    stretch = stdtrit(cases - 1, (1 + decisive) / 2) / stdtrit(cases - 1, 1 - tail)
    return float(median - stretch * (median - low)), float(median + stretch * (high - median))
