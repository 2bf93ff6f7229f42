"""Live performance: the champion's metric on recent rows with known labels, compared with its metric at promotion.

The scores of single weeks vary as much as a good and an outdated model differ. A drop is therefore tested twice: over
all evaluation windows, where a lasting drop accumulates, and in the newest one alone, where a sudden drop shows first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from continuous_training.comparison import bootstrap, evaluation
from continuous_training.comparison.cases import count_by_class, count_cases, count_groups
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.comparison.weighted_metrics import weighted_metric
from continuous_training.documents import Value
from continuous_training.monitoring.profile import MIN_WINDOW_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.settings import Settings

NEWEST_WINDOW_SHARE = 0.2  # of the false alarms: a sudden drop is large, so that a lasting one can have the rest


class MetricEstimate(Value):
    """A metric of one model on some rows with its confidence interval; higher is better.

    `windows` has the metric of each window of these rows, the newest last.
    """

    metric: str
    value: float
    low: float
    high: float
    confidence: float
    rows: int
    windows: list[float] = Field(default_factory=list)


@dataclass(frozen=True)
class MetricDrop:
    """A drop of the metric in the newest `windows`; it is significant if `ratio` is 1 or more."""

    ratio: float
    windows: int


def estimate_metric(
    predictions: Predictions,
    rows: pd.DataFrame,
    windows: Sequence[NDArray[np.intp]],
    settings: Settings,
) -> MetricEstimate | None:
    """Return the primary metric with its bootstrap interval; None if there are too few or too similar rows for one.

    Args:
        predictions: the model's predictions for the rows.
        rows: the rows, with the columns that `settings.label_columns` lists.
        windows: the row numbers of each window, the newest last. Windows of few rows or of one class have no score.
        settings: the settings of the model.
    """
    limits = settings.compare
    classes = rows[settings.data.targets[0]] if isinstance(predictions, evaluation.ClassifierPredictions) else None
    groups = bootstrap.draw_groups(rows, settings)
    if count_cases(len(rows), count_by_class(classes), count_groups(groups)) < limits.min_cases:
        return None
    truth = GroundTruth.of(rows, settings)
    score = weighted_metric(limits.metric, predictions, truth)
    resamples = bootstrap.resample_weights(len(truth), limits.resamples, groups)
    interval = bootstrap.interval(np.array([score(weights) for weights in resamples]), limits.confidence)
    if interval is None:
        return None
    value = evaluation.score(limits.metric, predictions, truth)
    low, high = min(interval[0], value), max(interval[1], value)
    large = [window for window in windows if len(window) >= MIN_WINDOW_ROWS]
    scorable = [window for window in large if classes is None or len(np.unique(truth.labels[window])) > 1]
    return MetricEstimate(
        metric=limits.metric,
        value=value,
        low=low,
        high=high,
        confidence=limits.confidence,
        rows=len(truth),
        windows=[evaluation.score(limits.metric, predictions.take(window), truth.take(window)) for window in scorable],
    )


def measure_drop(baseline: MetricEstimate | None, current: MetricEstimate, false_alarms: float) -> MetricDrop:
    """Test for a drop over all evaluation windows and in the newest one; return the more significant of the two.

    Between windows of equal quality a drop is reported with a probability of at most `false_alarms`, which the two
    tests share. The drop must exceed the sampling noise of the rows, too; where the baseline has no windows to show how
    much they vary, that is the only condition.
    """
    windows = current.windows
    if baseline is None or baseline.metric != current.metric:
        return MetricDrop(0.0, len(windows))
    # the interval of the difference of two independent estimates: Zou and Donner, Statistics in Medicine 27 (2008)
    noise = math.hypot(current.high - current.value, baseline.value - baseline.low)
    whole = _ratio(baseline.value - current.value, noise)
    if len(baseline.windows) < 2 or not windows:
        return MetricDrop(whole, len(windows))
    if len(windows) == 1:
        return MetricDrop(min(whole, _t_ratio(baseline.windows, windows, false_alarms)), 1)
    lasting = min(whole, _t_ratio(baseline.windows, windows, (1 - NEWEST_WINDOW_SHARE) * false_alarms))
    sudden = _t_ratio(baseline.windows, windows[-1:], NEWEST_WINDOW_SHARE * false_alarms)
    return MetricDrop(lasting, len(windows)) if lasting >= sudden else MetricDrop(sudden, 1)


def _t_ratio(baseline: Sequence[float], current: Sequence[float], error: float) -> float:
    """Return the difference of two means divided by the critical value at the significance level `error`.

    This is Student's t test of two samples, one-sided; for a single current window it is a prediction interval.
    """
    from scipy.special import stdtrit

    freedom = len(baseline) + len(current) - 2
    squares = sum(float(np.var(windows)) * len(windows) for windows in (baseline, current))
    standard_error = math.sqrt(squares / freedom * (1 / len(baseline) + 1 / len(current)))
    return _ratio(float(np.mean(baseline) - np.mean(current)), float(stdtrit(freedom, 1 - error)) * standard_error)


def _ratio(drop: float, limit: float) -> float:
    if drop <= 0:
        return 0.0
    return drop / limit if limit > 0 else 1.0
