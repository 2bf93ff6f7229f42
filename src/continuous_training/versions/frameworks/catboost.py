"""CatBoost: its own binary format."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import catboost
import numpy as np

from continuous_training.versions.frameworks.classes import read_classes
from continuous_training.versions.frameworks.fitting import TRAINING, VALIDATION, Fit, StopFit, check_early_stopping

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from continuous_training.versions.frameworks.fitting import LabelledRows, Report

BOOSTER = "booster.cbm"
PATIENCE = ("early_stopping_rounds", "od_wait", "od_pval")
STEPS = ("iterations", "n_estimators", "num_boost_round", "num_trees")  # names of one parameter
COLUMNS = ("cat_features", "text_features", "embedding_features")  # parameters that a set of rows needs too


class _Steps:
    """A callback that reports the metrics of each step."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.stop: StopFit | None = None  # an exception would not leave CatBoost

    def after_iteration(self, step: Any) -> bool:  # noqa: ANN401
        """Report a step; True continues the fit."""
        values = {
            f"{name}/{metric}": series[-1]
            for part, name in (("learn", TRAINING), ("validation", VALIDATION))
            for metric, series in step.metrics.get(part, {}).items()
            if series
        }
        try:
            self._report(step.iteration, values)
        except StopFit as stop:
            self.stop = stop
        return self.stop is None


def fit(estimator: catboost.CatBoost, training: LabelledRows, validation: LabelledRows | None, report: Report) -> Fit:
    """Fit an estimator; its parameter `early_stopping_rounds` is the patience."""
    check_early_stopping(estimator, PATIENCE, validation)
    options: dict[str, Any] = {"sample_weight": training.weights}
    ranks = isinstance(estimator, catboost.CatBoostRanker)
    if ranks:
        options["group_id"] = training.groups_for(estimator)
    if validation is not None:
        columns = {name: estimator.get_param(name) for name in COLUMNS}
        columns["group_id"] = validation.groups_for(estimator) if ranks else None
        options["eval_set"] = catboost.Pool(
            validation.features, validation.labels, weight=validation.weights, **columns
        )
    steps = _Steps(report)
    if estimator.get_param("task_type") != "GPU":  # where it takes no callbacks
        options["callbacks"] = [steps]
    estimator.fit(training.features, training.labels, **options)
    if steps.stop:
        raise steps.stop
    classes = np.asarray(estimator.classes_) if isinstance(estimator, catboost.CatBoostClassifier) else None
    return Fit(classes, None if validation is None else estimator.tree_count_)


def fix_steps(estimator: catboost.CatBoost, steps: int) -> bool:
    """Let the next fit do so many steps, and not stop early."""
    others = {*STEPS, *PATIENCE, "od_type", "use_best_model"}  # what means the steps, or needs validation rows
    parameters = {name: value for name, value in estimator.get_params().items() if name not in others}
    type(estimator).__init__(estimator, iterations=steps, **parameters)  # set_params removes no parameter
    return True


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
