"""CatBoost: its own binary format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import catboost

from continuous_training.versions.frameworks.classes import read_classes

if TYPE_CHECKING:
    from pathlib import Path

BOOSTER = "booster.cbm"


def save(estimator: catboost.CatBoost, folder: Path) -> None:
    """Write a fitted estimator's files."""
    estimator.save_model(str(folder / BOOSTER))


def load(folder: Path, package: str) -> Any:  # noqa: ANN401, ARG001 - it needs no code of the model
    """Read them."""
    is_classifier = read_classes(folder) is not None
    estimator = catboost.CatBoostClassifier() if is_classifier else catboost.CatBoostRegressor()
    return estimator.load_model(str(folder / BOOSTER))
