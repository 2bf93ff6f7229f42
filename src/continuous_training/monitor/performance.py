"""Performance: what the champion's answers are worth where the truth is known by now, beside what they were worth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from continuous_training.comparison import bootstrap, evaluation, slices
from continuous_training.comparison.counted import counted
from continuous_training.documents import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Recorded
    from continuous_training.settings import Compare


class Measured(Value):
    """A metric of one model on some rows, more being better, and its interval.

    `windows` are the same of parts of these rows, each as long as what the monitor looks at.
    """

    metric: str
    value: float
    low: float
    high: float
    confidence: float
    rows: int
    windows: list[float] = Field(default_factory=list)


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


def by_window(
    recorded: Recorded, truth: pd.Series, windows: Sequence[NDArray[np.intp]], limits: Compare
) -> list[float]:
    """Score windows, each given by its rows; those of one class are left out. Other arguments as of `measured`."""
    known = truth.to_numpy()
    labels = isinstance(recorded, evaluation.RecordedClassifier)
    scored = [rows for rows in windows if not (labels and len(np.unique(known[rows])) < 2)]
    return [evaluation.score(limits.metric, recorded.of(rows), known[rows]) for rows in scored]


def change(then: Measured, now: Measured) -> tuple[float, float]:
    """Return the interval of now less then: the wider of what chance takes, and of what windows differ by anyway.

    The two are of different rows, so what chance takes adds up as squares (Zou and Donner, Statistics in Medicine 27,
    2008). One more window lies where the windows of then predict one (Hahn and Meeker, Statistical Intervals, 1991).
    """
    difference, apart = now.value - then.value, _apart(then)
    below = max(apart, math.hypot(now.value - now.low, then.high - then.value))
    above = max(apart, math.hypot(now.high - now.value, then.value - then.low))
    return difference - below, difference + above


def _apart(then: Measured) -> float:
    """Return how far one more window may lie from all of them; 0 if there are not two to tell it."""
    windows = len(then.windows)
    if windows < 2:
        return 0.0
    from scipy.stats import t

    beyond = float(t.ppf((1 + then.confidence) / 2, windows - 1))
    return beyond * float(np.std(then.windows, ddof=1)) * math.sqrt(1 + 1 / windows)
