"""Estimators of several targets, of each library that has them: fitted, stopped early, stored and opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.multioutput import MultiOutputRegressor, RegressorChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from continuous_training.errors import UserError
from continuous_training.training.fitting import fit_estimator
from continuous_training.versions.estimator import open_estimator, save_estimator
from continuous_training.versions.frameworks.fitting import LabelledRows
from continuous_training.versions.skops_archive import Trust
from framework_models import BOOSTERS

lightgbm, xgboost, catboost = (
    pytest.importorskip(name, reason=f"{name} is not installed: scripts/ct test installs it") for name in BOOSTERS
)

TRUST = Trust("toy")
MULTI_RMSE = {"loss_function": "MultiRMSE", "verbose": 0, "allow_writing_files": False}


def make_rows(seed: int, rows: int = 200) -> LabelledRows:
    """Return weighted rows whose targets are 3x and 1 - 2y, with some noise."""
    random = np.random.default_rng(seed)
    features = pd.DataFrame(random.normal(size=(rows, 2)), columns=["x", "y"])
    noise = random.normal(scale=0.1, size=(rows, 2))
    labels = pd.DataFrame({"bikes": 3 * features["x"] + noise[:, 0], "docks": 1 - 2 * features["y"] + noise[:, 1]})
    return LabelledRows(features, labels, random.uniform(1, 2, rows))


TRAINING, VALIDATION = make_rows(0), make_rows(1, 50)


def assert_opened_predicts_as_fitted(fitted: Any, folder: Path) -> None:
    """Check that the stored estimator predicts both targets, each of them well."""
    opened = open_estimator(folder, save_estimator(fitted, folder, TRUST), TRUST)
    predictions = opened.predict(VALIDATION.features)
    assert predictions.shape == (50, 2)
    assert np.array_equal(predictions, fitted.predict(VALIDATION.features))
    assert np.abs(predictions - VALIDATION.labels.to_numpy()).mean(axis=0).max() < 1


@pytest.mark.parametrize(
    "estimator",
    [
        Ridge(),
        RandomForestRegressor(10, random_state=0),
        MultiOutputRegressor(HistGradientBoostingRegressor(max_iter=30)),
        RegressorChain(Ridge()),
        make_pipeline(StandardScaler(), Ridge()),
        xgboost.XGBRegressor(n_estimators=30),
        xgboost.XGBRegressor(n_estimators=30, multi_strategy="multi_output_tree"),
        make_pipeline(StandardScaler(), xgboost.XGBRegressor(n_estimators=30)),
        catboost.CatBoostRegressor(n_estimators=60, learning_rate=0.3, **MULTI_RMSE),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_both_targets_are_predicted(estimator: Any, tmp_path: Path) -> None:
    weights = None if isinstance(estimator, RegressorChain) or hasattr(estimator, "steps") else TRAINING.weights
    training = LabelledRows(TRAINING.features, TRAINING.labels, weights)
    fitted, _ = fit_estimator(estimator, "toy", training, None, lambda *_: None)
    assert_opened_predicts_as_fitted(fitted, tmp_path)


@pytest.mark.parametrize(
    "estimator",
    [
        xgboost.XGBRegressor(n_estimators=300, early_stopping_rounds=3),
        catboost.CatBoostRegressor(n_estimators=300, learning_rate=0.5, early_stopping_rounds=3, **MULTI_RMSE),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_validation_rows_of_both_targets_stop_the_fit_early(estimator: Any, tmp_path: Path) -> None:
    parts: set[str] = set()
    fitted, best_step = fit_estimator(
        estimator,
        "toy",
        TRAINING,
        VALIDATION,
        lambda _, metrics: parts.update(name.partition("/")[0] for name in metrics),
    )
    assert best_step is not None
    assert best_step < 300
    assert parts == {"training", "validation"}
    assert_opened_predicts_as_fitted(fitted, tmp_path)


def test_a_class_of_a_team_receives_frames_of_both_targets() -> None:
    received = []

    class Rule:
        def fit(self, rows: Any, labels: Any, X_val: Any, y_val: Any) -> None:  # noqa: ARG002, N803
            received.extend([labels, y_val])

    unweighted = [LabelledRows(rows.features, rows.labels) for rows in (TRAINING, VALIDATION)]
    fit_estimator(Rule(), "toy", *unweighted, lambda *_: None)
    assert [list(labels) for labels in received] == [["bikes", "docks"]] * 2
    assert [len(labels) for labels in received] == [200, 50]


def test_lightgbm_says_that_it_predicts_one_target() -> None:
    with pytest.raises(UserError, match="^LGBMRegressor predicts one target, not a list: use scikit-learn, XGBoost, "):
        fit_estimator(lightgbm.LGBMRegressor(n_estimators=2), "toy", TRAINING, None, lambda *_: None)
