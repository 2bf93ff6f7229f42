"""What predictions are scored against: labels, and what a team's own metrics take beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from continuous_training.comparison.metric_functions import MetricFunction, load_metric_functions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from continuous_training.settings import Settings


@dataclass(frozen=True)
class GroundTruth:
    """Labelled rows.

    Attributes:
        labels: of shape (rows,), or (rows, targets) if there are several targets.
        weights: of shape (rows,); 1 for each row if training.yaml names no column of weights.
        rows: all columns of the rows.
        functions: the team's own metrics, by name.
        groups: the number of each row's group, of shape (rows,), if training.yaml names a column of groups.
    """

    labels: NDArray[Any]
    weights: NDArray[np.float64]
    rows: pd.DataFrame
    functions: dict[str, MetricFunction] = field(default_factory=dict)
    groups: NDArray[np.intp] | None = None

    @classmethod
    def of(cls, rows: pd.DataFrame, settings: Settings) -> Self:
        """Return the ground truth of rows with a target.

        Raises:
            UserError: a metric of the team's own cannot be imported.
        """
        data = settings.data
        weights = np.ones(len(rows)) if data.weight is None else rows[data.weight].to_numpy(np.float64)
        functions = load_metric_functions(settings.compare)
        groups = None if data.group is None else pd.factorize(rows[data.group], use_na_sentinel=False)[0]
        return cls(rows[data.target].to_numpy(), weights, rows, functions, groups)

    @classmethod
    def of_labels(cls, labels: ArrayLike | GroundTruth) -> GroundTruth:
        """Return the ground truth of labels alone, which suffices for scikit-learn's scorers."""
        if isinstance(labels, GroundTruth):
            return labels
        values = np.asarray(labels)
        return cls(values, np.ones(len(values)), pd.DataFrame(index=range(len(values))))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)

    def take(self, rows: NDArray[np.intp]) -> GroundTruth:
        """Return the ground truth of the rows with these numbers."""
        frame = self.rows.take(rows) if self.functions else self.rows.iloc[:0]
        groups = None if self.groups is None else self.groups[rows]
        return GroundTruth(self.labels[rows], self.weights[rows], frame, self.functions, groups)
