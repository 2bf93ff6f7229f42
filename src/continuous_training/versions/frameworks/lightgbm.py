"""LightGBM: the booster in its text format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BOOSTER = "booster.txt"


class StoredBooster:
    """A booster as an estimator."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        self._booster = booster

    @property
    def feature_names_in_(self) -> list[str]:
        """The columns that it was fitted on."""
        return list(self._booster.feature_name())

    def predict(self, rows: Any) -> NDArray[Any]:  # noqa: ANN401 - a frame or an array
        """Return a regressor's predictions for rows, of shape (rows,)."""
        return np.asarray(self._booster.predict(rows))

    def predict_proba(self, rows: Any) -> NDArray[Any]:  # noqa: ANN401
        """Return a classifier's probabilities for rows, of shape (rows, classes)."""
        probabilities = np.asarray(self._booster.predict(rows))
        if probabilities.ndim == 1:  # of the second of two classes
            return np.column_stack([1 - probabilities, probabilities])
        return probabilities


def save(estimator: lightgbm.LGBMModel, folder: Path) -> None:
    """Write a fitted estimator's files."""
    estimator.booster_.save_model(folder / BOOSTER)


def load(folder: Path, package: str) -> StoredBooster:  # noqa: ARG001 - it needs no code of the model
    """Read them."""
    return StoredBooster(lightgbm.Booster(model_file=folder / BOOSTER))
