"""Performance: what the champion's answers are worth where the truth is known by now, beside what they were worth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from continuous_training.comparison import bootstrap, evaluation, slices
from continuous_training.comparison.counted import counted
from continuous_training.documents import Value

if TYPE_CHECKING:
    import pandas as pd

    from continuous_training.comparison.evaluation import Recorded
    from continuous_training.settings import Compare


class Measured(Value):
    """A metric of one model on some rows, more being better, and its interval."""

    metric: str
    value: float
    low: float
    high: float
    confidence: float
    rows: int


def measured(recorded: Recorded, truth: pd.Series, times: pd.Series, limits: Compare) -> Measured | None:
    """Score the primary metric with its bootstrap interval; None if the rows are too few or too much alike for one.

    Args:
        recorded: what the model said of the rows.
        truth: of shape (rows,).
        times: when each row happened, of shape (rows,), for rows of one period to be drawn together.
        limits: the metric, the confidence, the resamples.
    """
    classes = truth if isinstance(recorded, evaluation.RecordedClassifier) else None
    together = slices.together(times, limits.resample_by)
    if slices.cases(classes, together, len(truth)) < limits.cases:
        return None
    known = truth.to_numpy()
    score = counted(limits.metric, recorded, known)
    drawn = bootstrap.draws(len(known), limits.resamples, together)
    found = bootstrap.interval(np.array([score(counts) for counts in drawn]), limits.confidence)
    if found is None:
        return None
    value = evaluation.score(limits.metric, recorded, known)
    low, high = min(found[0], value), max(found[1], value)
    return Measured(
        metric=limits.metric, value=value, low=low, high=high, confidence=limits.confidence, rows=len(known)
    )


def change(then: Measured, now: Measured) -> tuple[float, float]:
    """Return the interval of now less then, from their own.

    The two are of different rows, so their errors add up as squares (Zou and Donner, Statistics in Medicine 27, 2008).
    """
    difference = now.value - then.value
    below = math.hypot(now.value - now.low, then.high - then.value)
    above = math.hypot(now.high - now.value, then.value - then.low)
    return difference - below, difference + above
