"""How far apart two distributions of a column are, and how far a window may be before that means anything.

A week is never like the year that it is of. So a limit has three parts:

- The threshold of training.yaml, below which no distance matters.
- How far the windows lay that the model learnt from. Each column is measured by the distance that is usual for it, and
  the limit is as many times that as only the given share of those windows exceeded with any of their columns: the
  correction for many columns by their largest statistic, which knows how they hang together (Westfall and Young,
  Resampling-Based Multiple Testing, 1993). A window like those is called moved in that share of all cases.
- What chance alone makes of so few rows. It is added as squares, as errors are that know nothing of each other: the sum
  itself would be a limit that no sample passes, and misses what is half as far again as it may be.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

Test = Literal["wasserstein", "jensenshannon"]

DRAWS = 40  # of samples that differ by chance alone
LEAST_SPREAD = 0.001  # of numbers that hardly differ, as Evidently has it


def between(test: Test, reference: pd.Series[Any], window: pd.Series[Any]) -> float:
    """Return the distance of two samples, nulls left out."""
    before, now = reference.dropna(), window.dropna()
    if test == "wasserstein":
        return _wasserstein(before.to_numpy(np.float64), now.to_numpy(np.float64))
    shares = [values.value_counts(normalize=True) for values in (before, now)]
    known = shares[0].index.union(shares[1].index)
    learnt, asked = (np.asarray(each.reindex(known, fill_value=0), dtype=np.float64) for each in shares)
    return jensenshannon(learnt, asked)


def jensenshannon(before: NDArray[Any], now: NDArray[Any]) -> float:
    """Return the distance of two ways to share the same categories, each of shape (categories,)."""
    from scipy.spatial import distance

    found = float(distance.jensenshannon(before, now))
    return 0.0 if math.isnan(found) else found  # of equal shares rounding may leave a negative square


def by_chance(test: Test, reference: pd.Series[Any], rows: int) -> float:
    """Return how far so many rows may be from the reference when they were drawn from it: 39 of 40 such are nearer."""
    random, known = np.random.default_rng(0), reference.dropna()
    if known.empty or not rows:
        return 0.0
    if test == "wasserstein":
        values = np.sort(known.to_numpy(np.float64))
        gaps = np.diff(values) / max(float(values.std()), LEAST_SPREAD)

        def below(size: int) -> NDArray[np.float64]:
            """Draw so many of the values, and return the share of them at or below each but the last."""
            drawn = np.bincount(random.integers(len(values), size=size), minlength=len(values))
            return drawn.cumsum()[:-1] / size

        return max(float(np.abs(below(len(values)) - below(rows)) @ gaps) for _ in range(DRAWS))
    shares = known.value_counts(normalize=True).to_numpy()
    drawn = [random.multinomial(size, shares, DRAWS) / size for size in (len(known), rows)]
    return max(map(jensenshannon, *drawn))


def factor(distances: Mapping[str, list[float]], false_alarms: float) -> float:
    """Return how many times its usual distance a column may have.

    So many that in a share of `false_alarms` of the windows any column had more. With fewer windows than such a share
    can be seen in, it is the most that any of them had.

    Args:
        distances: of each column, a distance for each window; NaN where there were no values.
        false_alarms: above 0, below 1.
    """
    usually = {name: usual(found) for name, found in distances.items()}
    measured = [np.asarray(found) / usually[name] for name, found in distances.items() if usually[name] > 0]
    if not measured:
        return 1.0
    furthest = np.sort(np.max(np.nan_to_num(np.stack(measured)), axis=0))
    rank = math.ceil((len(furthest) + 1) * (1 - false_alarms))
    return float(furthest[min(rank, len(furthest)) - 1])


def usual(found: list[float]) -> float:
    """Return the distance that is usual among the windows of one column; 0 if there are none."""
    known = [distance for distance in found if not math.isnan(distance)]
    return sum(known) / len(known) if known else 0.0


def _wasserstein(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(before, now)) / max(float(before.std()), LEAST_SPREAD)
