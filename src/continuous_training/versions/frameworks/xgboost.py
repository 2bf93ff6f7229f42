"""XGBoost: the booster in its binary JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import xgboost

from continuous_training.versions.frameworks.classes import read_classes

if TYPE_CHECKING:
    from pathlib import Path

BOOSTER, PARAMETERS = "booster.ubj", "parameters.json"
STORED = ("missing", "enable_categorical")  # parameters that decide predictions and that the booster does not store


def save(estimator: xgboost.XGBModel, folder: Path) -> None:
    """Write a fitted estimator's files."""
    estimator.save_model(folder / BOOSTER)
    parameters = {name: getattr(estimator, name) for name in STORED}
    (folder / PARAMETERS).write_text(json.dumps(parameters), encoding="utf-8")


def load(folder: Path, package: str) -> Any:  # noqa: ANN401, ARG001 - it needs no code of the model
    """Read them."""
    stored = json.loads((folder / PARAMETERS).read_bytes())
    parameters = {name: stored[name] for name in STORED}
    is_classifier = read_classes(folder) is not None
    estimator = (xgboost.XGBClassifier if is_classifier else xgboost.XGBRegressor)(**parameters)
    estimator.load_model(folder / BOOSTER)
    return estimator
