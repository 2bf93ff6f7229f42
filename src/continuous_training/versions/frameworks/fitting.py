"""What a framework's `fit` receives and returns."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

log = logging.getLogger(__name__)

Report = Callable[[int, Mapping[str, float]], None]
"""Receives the number of a step, from 1, and its metrics by names such as `validation/logloss`; may raise `StopFit`."""
TRAINING, VALIDATION = "training", "validation"  # what these names begin with


class StopFit(Exception):  # noqa: N818 - no error
    """What a `Report` raises to end a fit whose model is not needed."""


@dataclass(frozen=True)
class LabelledRows:
    """Rows with their labels.

    Attributes:
        features: a frame, or what the steps of a pipeline make of one, of shape (rows, features).
        labels: of shape (rows,); a frame of shape (rows, targets) if there are several targets.
        weights: of shape (rows,), if training.yaml names a column of weights.
        groups: the number of each row's group, of shape (rows,), ascending, if training.yaml names a column of groups.
    """

    features: Any
    labels: pd.Series | pd.DataFrame
    weights: NDArray[np.float64] | None = None
    groups: NDArray[np.intp] | None = None

    def encode(self, classes: NDArray[Any]) -> LabelledRows:
        """Return the rows with the number of each label among sorted classes, for libraries that need numbers."""
        codes = pd.Series(np.searchsorted(classes, self.labels.to_numpy()), index=self.labels.index)
        return dataclasses.replace(self, labels=codes)

    def groups_for(self, estimator: Any) -> NDArray[np.intp]:  # noqa: ANN401
        """Return the groups, which an estimator needs.

        Raises:
            UserError: there are none.
        """
        if self.groups is None:
            raise UserError(f"{type(estimator).__name__} ranks the rows of a group: set data.group")
        return self.groups


class Fit(NamedTuple):
    """What is known after a fit.

    Attributes:
        classes: a classifier's, in the order of its probabilities; None of a regressor.
        best_step: the step whose model is used, if it is not the last one.
        estimator: what is stored in place of the estimator, if it was not fitted in place.
    """

    classes: NDArray[Any] | None = None
    best_step: int | None = None
    estimator: Any = None


def check_early_stopping(estimator: Any, names: Sequence[str], validation: LabelledRows | None) -> None:  # noqa: ANN401
    """Check that a booster has early stopping and validation rows, or none of both.

    Args:
        estimator: the unfitted booster.
        names: of the parameter that sets its patience, the usual name first.
        validation: the validation rows.

    Raises:
        UserError: it has early stopping, and no validation rows.
    """
    parameters = estimator.get_params()
    is_set = any(parameters.get(name) for name in names)
    if is_set and validation is None:
        raise UserError(f"{names[0]} needs validation rows: set model.validation_days")
    if validation is not None and not is_set:
        log.warning("Nothing stops this fit early: that needs the parameter %s", names[0])
