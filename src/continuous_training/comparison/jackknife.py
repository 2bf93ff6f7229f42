"""The jackknife over groups of rows: the standard error of a difference that has too few groups for the bootstrap.

A bootstrap of few groups finds too small an error, so that equal models look different. The jackknife finds one that is
large enough on average (Efron and Stein, The jackknife estimate of variance, Annals of Statistics 9, 1981). With
quantiles of Student's t for one degree of freedom less than there are groups it keeps its error rate down to about six
groups (MacKinnon, Nielsen and Webb, Fast and reliable jackknife and bootstrap methods for cluster-robust inference,
Journal of Applied Econometrics 38, 2023, whose CV3 it is).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from continuous_training.comparison.weighted_metrics import weighted_metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.comparison.ground_truth import GroundTruth


def estimate_difference(
    metric: str, candidate: Predictions, champion: Predictions, truth: GroundTruth, groups: NDArray[Any]
) -> tuple[float, float]:
    """Return candidate minus champion on all rows, and its standard error.

    Both are in the unit of the metric, and NaN if the metric is not defined on all rows but those of one group.

    Args:
        metric: its name.
        candidate: the predictions of the candidate.
        champion: the predictions of the champion.
        truth: the ground truth of the rows.
        groups: the group of each row, of shape (rows,); at least two.
    """
    scores = [weighted_metric(metric, model, truth) for model in (candidate, champion)]
    labels, group = np.unique(groups, return_inverse=True)

    def difference(weights: NDArray[np.int16]) -> float:
        return scores[0](weights) - scores[1](weights)

    rest = np.array([difference((group != number).astype(np.int16)) for number in range(len(labels))])
    factor = (len(labels) - 1) / len(labels)
    error = float(np.sqrt(factor * np.square(rest - rest.mean()).sum()))
    return difference(np.ones(len(truth), dtype=np.int16)), error
