"""Performance: what the champion's answers are worth where the truth is known by now, beside what they were worth.

One window of a week varies by as much as a good model and a stale one differ, so a fall is looked for twice: over as
many live windows as the fresh rows had, where one that lasts adds up, and in the newest alone, where a collapse shows
before it has lasted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from continuous_training.comparison import bootstrap, evaluation, slices
from continuous_training.comparison.counted import counted
from continuous_training.documents import Value
from continuous_training.monitoring.profile import LEAST_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Recorded
    from continuous_training.settings import Compare

SUDDEN = 0.2  # of the false alarms are the newest window's: a collapse is large, a lasting fall needs the rest


class Measured(Value):
    """A metric of one model on some rows, more being better, and its interval.

    `windows` are the same of parts of these rows, each as long as what the monitor looks at, the newest last.
    """

    metric: str
    value: float
    low: float
    high: float
    confidence: float
    rows: int
    windows: list[float] = Field(default_factory=list)


@dataclass(frozen=True)
class Fall:
    """How surely a metric fell in the newest `windows`: `ratio` is like a column's, and 1 or more if it surely did."""

    ratio: float
    windows: int


def measured(
    recorded: Recorded, truth: pd.Series, times: pd.Series, windows: Sequence[NDArray[np.intp]], limits: Compare
) -> Measured | None:
    """Score the primary metric with its bootstrap interval; None if the rows are too few or too much alike for one.

    Args:
        recorded: what the model said of the rows.
        truth: of shape (rows,).
        times: when each row happened, of shape (rows,), for rows of one period to be drawn together.
        windows: each given by its rows, the newest last; those of one class or of few rows are left out.
        limits: the metric, the confidence, the resamples.
    """
    classes = truth if isinstance(recorded, evaluation.RecordedClassifier) else None
    together = slices.together(times, limits.resample_by)
    if slices.cases(classes, together, len(truth)) < limits.min_cases:
        return None
    known = truth.to_numpy()
    score = counted(limits.metric, recorded, known)
    drawn = bootstrap.draws(len(known), limits.resamples, together)
    found = bootstrap.interval(np.array([score(counts) for counts in drawn]), limits.confidence)
    if found is None:
        return None
    value = evaluation.score(limits.metric, recorded, known)
    low, high = min(found[0], value), max(found[1], value)
    many = [rows for rows in windows if len(rows) >= LEAST_ROWS]
    scored = [rows for rows in many if classes is None or len(np.unique(known[rows])) > 1]
    return Measured(
        metric=limits.metric,
        value=value,
        low=low,
        high=high,
        confidence=limits.confidence,
        rows=len(known),
        windows=[evaluation.score(limits.metric, recorded.of(rows), known[rows]) for rows in scored],
    )


def fall(then: Measured | None, now: Measured, false_alarms: float) -> Fall:
    """Say how surely the metric fell, over all live windows or in the newest alone: what says so the louder.

    Equal windows are called fallen in a share of at most `false_alarms`, which the two share. What chance makes of the
    rows must be exceeded too; without windows to tell what they differ by anyway, that is all there is to go by.
    """
    live = now.windows
    if then is None or then.metric != now.metric:
        return Fall(0.0, len(live))
    # the two are of different rows: Zou and Donner, Statistics in Medicine 27 (2008)
    chance = math.hypot(now.high - now.value, then.value - then.low)
    whole = _ratio(then.value - now.value, chance)
    if len(then.windows) < 2 or not live:
        return Fall(whole, len(live))
    if len(live) == 1:
        return Fall(min(whole, _apart(then.windows, live, false_alarms)), 1)
    lasting = min(whole, _apart(then.windows, live, (1 - SUDDEN) * false_alarms))
    sudden = _apart(then.windows, live[-1:], SUDDEN * false_alarms)
    return Fall(lasting, len(live)) if lasting >= sudden else Fall(sudden, 1)


def _apart(then: Sequence[float], now: Sequence[float], error: float) -> float:
    """Return how far the mean of windows lies below that of others, in parts of what a share of `error` exceeds.

    Student's t of two samples, one-sided; of one window it is the prediction of one more.
    """
    from scipy.special import stdtrit

    freedom = len(then) + len(now) - 2
    squares = sum(float(np.var(windows)) * len(windows) for windows in (then, now))
    spread = math.sqrt(squares / freedom * (1 / len(then) + 1 / len(now)))
    return _ratio(float(np.mean(then) - np.mean(now)), float(stdtrit(freedom, 1 - error)) * spread)


def _ratio(drop: float, limit: float) -> float:
    if drop <= 0:
        return 0.0
    return drop / limit if limit > 0 else 1.0
