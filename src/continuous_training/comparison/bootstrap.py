"""The paired bootstrap: how sure the difference between two models' scores is.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: percentile intervals. Both models are scored
on the same resampled rows, so what makes a row hard for both cancels out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from continuous_training import progress
from continuous_training.comparison.weighted_metrics import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from continuous_training.comparison.evaluation import Recorded
    from continuous_training.comparison.weighted_metrics import Counts

BLOCK = 1 << 16  # rows: how many a block gets is drawn first, then which of them, within the processor's cache


def draws(rows: int, resamples: int, groups: NDArray[Any] | None = None) -> Iterator[Counts]:
    """Yield for each resample how often each row is in it, of shape (rows,); always the same ones.

    Args:
        rows: how many rows there are to draw from, with replacement.
        resamples: how many times.
        groups: the label of each row's group, if groups are drawn as a whole.
    """
    if groups is None:
        random = np.random.default_rng(0)
        starts = np.arange(0, rows, BLOCK)
        sizes = np.diff(starts, append=rows)
        for _ in range(resamples):
            counts = np.empty(rows, dtype=np.int16)
            for start, size, drawn in zip(starts, sizes, random.multinomial(rows, sizes / rows), strict=True):
                places = random.integers(size, size=drawn, dtype=np.uint16)
                counts[start : start + size] = np.bincount(places, minlength=size)
            yield counts
        return
    labels, group = np.unique(groups, return_inverse=True)
    for counts in draws(len(labels), resamples):
        yield counts.take(group)


def differences(
    metric: str,
    ours: Recorded,
    theirs: Recorded,
    truth: ArrayLike,
    *,
    resamples: int,
    together: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Return score(ours) - score(theirs) on each resample, of shape (resamples,); NaN where one is not defined.

    Takes memory for the rows, not for the resamples.
    """
    known = np.asarray(truth)
    mine, other = (counted(metric, model, known) for model in (ours, theirs))
    found = np.empty(resamples)
    with progress.bar(f"resamples, {metric}", resamples) as advance:
        for number, counts in enumerate(draws(len(known), resamples, together)):
            found[number] = mine(counts) - other(counts)
            advance(1)
    return found


def interval(differences: NDArray[np.float64], confidence: float) -> tuple[float, float] | None:
    """Return the percentile interval of the resamples' differences.

    None if so many resamples have no score that the interval's ends would be guesses.
    """
    tail = (1 - confidence) / 2
    if np.isnan(differences).mean() > tail:
        return None
    low, high = np.nanquantile(differences, [tail, 1 - tail])
    return float(low), float(high)
