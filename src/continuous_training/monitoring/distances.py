"""Distances between two samples of a column, and the limit above which a distance counts as drift.

No week is distributed like the whole training period. The limit of a column therefore has three parts:

- The threshold in training.yaml: a smaller distance never matters.
- The distances of the training windows. The distance of each column is divided by the mean of its training windows. The
  limit is the factor that only the configured share of the training windows exceeded in any of their columns. This
  max-statistic corrects for the number of columns and respects their correlation (Westfall and Young, Resampling-Based
  Multiple Testing, 1993). A window that resembles the training windows is reported as drifted in that share of cases.
- The sampling noise of a window with so few rows. It is added in quadrature, as independent errors are: with the plain
  sum, distances of up to 1.5 times the limit would be missed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

DriftTest = Literal["wasserstein", "jensenshannon"]

NOISE_RESAMPLES = 40
MIN_STANDARD_DEVIATION = 0.001  # of a nearly constant number: the same as Evidently's


def distance(test: DriftTest, reference: pd.Series[Any], current: pd.Series[Any]) -> float:
    """Return the distance of two samples, each of shape (rows,); nulls are ignored."""
    before, after = reference.dropna(), current.dropna()
    if test == "wasserstein":
        return _wasserstein(before.to_numpy(np.float64), after.to_numpy(np.float64))
    shares = [values.value_counts(normalize=True) for values in (before, after)]
    categories = shares[0].index.union(shares[1].index)
    pair = (np.asarray(each.reindex(categories, fill_value=0), dtype=np.float64) for each in shares)
    return jensen_shannon(*pair)


def jensen_shannon(before: NDArray[Any], after: NDArray[Any]) -> float:
    """Return the Jensen-Shannon distance of two distributions over the same categories, each of shape (categories,)."""
    from scipy.spatial import distance as scipy_distance

    value = float(scipy_distance.jensenshannon(before, after))
    return 0.0 if math.isnan(value) else value  # rounding may leave a negative square for equal distributions


def sampling_noise(test: DriftTest, reference: pd.Series[Any], rows: int) -> float:
    """Return the largest distance from the reference among 40 samples of `rows` rows that are drawn from it.

    The probability that another such sample is further away is 1 in 41.
    """
    random, values = np.random.default_rng(0), reference.dropna()
    if values.empty or not rows:
        return 0.0
    if test == "wasserstein":
        numbers = np.sort(values.to_numpy(np.float64))
        gaps = np.diff(numbers) / max(float(numbers.std()), MIN_STANDARD_DEVIATION)

        def resampled_distribution(size: int) -> NDArray[np.float64]:
            """Resample the values; return the empirical distribution function at each of them but the last."""
            counts = np.bincount(random.integers(len(numbers), size=size), minlength=len(numbers))
            return counts.cumsum()[:-1] / size

        return max(
            float(np.abs(resampled_distribution(len(numbers)) - resampled_distribution(rows)) @ gaps)
            for _ in range(NOISE_RESAMPLES)
        )
    shares = values.value_counts(normalize=True).to_numpy()
    pairs = [random.multinomial(size, shares, NOISE_RESAMPLES) / size for size in (len(values), rows)]
    return max(map(jensen_shannon, *pairs))


def limit_factor(window_distances: Mapping[str, list[float]], false_alarms: float) -> float:
    """Return the multiple of its mean distance that a column may reach.

    In a share of `false_alarms` of the training windows, some column exceeded it. If there are too few windows for such
    a share, it is the maximum of all windows.

    Args:
        window_distances: for each column, its distance in each training window; NaN where it had no values.
        false_alarms: between 0 and 1, both excluded.
    """
    means = {name: mean_distance(distances) for name, distances in window_distances.items()}
    factors = [np.asarray(distances) / means[name] for name, distances in window_distances.items() if means[name] > 0]
    if not factors:
        return 1.0
    maxima = np.sort(np.max(np.nan_to_num(np.stack(factors)), axis=0))
    rank = math.ceil((len(maxima) + 1) * (1 - false_alarms))
    return float(maxima[min(rank, len(maxima)) - 1])


def mean_distance(distances: list[float]) -> float:
    """Return the mean of a column's distances without NaN; 0 if there are none."""
    values = [value for value in distances if not math.isnan(value)]
    return sum(values) / len(values) if values else 0.0


def _wasserstein(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(before, after)) / max(float(before.std()), MIN_STANDARD_DEVIATION)
