"""CatBoost: its own binary format."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import catboost
import numpy as np

from continuous_training.versions.frameworks.classes import read_classes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BOOSTER = "booster.cbm"


class StoredModel:
    """A model as an estimator with `OMP_NUM_THREADS` threads, which CatBoost itself ignores."""

    def __init__(self, model: catboost.CatBoost) -> None:
        self._model = model

    @property
    def feature_names_in_(self) -> list[str]:
        """The columns that it was fitted on."""
        return list(self._model.feature_names_)

    def predict(self, rows: Any) -> NDArray[Any]:  # noqa: ANN401 - a frame or an array
        """Return a regressor's predictions for rows, of shape (rows,)."""
        return np.asarray(self._model.predict(rows, thread_count=_count_threads()))

    def predict_proba(self, rows: Any) -> NDArray[Any]:  # noqa: ANN401
        """Return a classifier's probabilities for rows, of shape (rows, classes)."""
        return np.asarray(self._model.predict_proba(rows, thread_count=_count_threads()))


def save(estimator: catboost.CatBoost, folder: Path) -> None:
    """Write a fitted estimator's files."""
    estimator.save_model(str(folder / BOOSTER))


def load(folder: Path, package: str) -> StoredModel:  # noqa: ARG001 - it needs no code of the model
    """Read them."""
    is_classifier = read_classes(folder) is not None
    model = catboost.CatBoostClassifier() if is_classifier else catboost.CatBoostRegressor()
    return StoredModel(model.load_model(str(folder / BOOSTER)))


def _count_threads() -> int:
    count = os.environ.get("OMP_NUM_THREADS", "")
    return int(count) if count.isdecimal() else -1  # all cores
