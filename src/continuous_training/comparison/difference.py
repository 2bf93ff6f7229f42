"""The difference of two models on rows that are too few for a percentile: its standard error, and its best value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from continuous_training.comparison import bootstrap, jackknife
from continuous_training.comparison.cases import count_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.comparison.ground_truth import GroundTruth
    from continuous_training.settings import Compare


class Difference(NamedTuple):
    """Candidate minus champion in a metric, its standard error, and the number of cases that both come from."""

    value: float
    standard_error: float
    cases: int

    def best(self, tail: float) -> float:
        """Return the value above which the difference lies with this probability.

        The quantile is that of Student's t for one degree of freedom less than there are cases: so small a tail has too
        few resamples for a percentile, and so few cases are not normal.
        """
        return self.value + float(stdtrit(self.cases - 1, 1 - tail)) * self.standard_error


def estimate_difference(
    candidate: Predictions,
    champion: Predictions,
    truth: GroundTruth,
    limits: Compare,
    groups: NDArray[Any] | None,
    cases: int,
) -> Difference | None:
    """Return the difference in the metric that decides; None if it is not defined on most resamples.

    Few groups use the jackknife: a bootstrap of them finds too small an error.

    Args:
        candidate: the predictions of the candidate.
        champion: those of the champion for the same rows.
        truth: the ground truth of the rows.
        limits: the metric and the number of resamples.
        groups: the group of each row, of shape (rows,), if the bootstrap draws groups.
        cases: the number of independent cases, at least 2.
    """
    number = count_groups(groups)
    if groups is not None and number is not None and number < limits.min_cases:
        value, error = jackknife.estimate_difference(limits.metric, candidate, champion, truth, groups)
        return None if math.isnan(error) else Difference(value, error, cases)
    differences = bootstrap.differences(
        limits.metric, candidate, champion, truth, resamples=limits.resamples, groups=groups
    )
    if np.isnan(differences).mean() > 0.5:
        return None
    return Difference(float(np.nanmean(differences)), float(np.nanstd(differences)), cases)
