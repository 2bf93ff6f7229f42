"""LightGBM: the booster in its text format."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np

from continuous_training.errors import UserError
from continuous_training.versions.frameworks.batches import refuse, to_numbers
from continuous_training.versions.frameworks.fitting import TRAINING, VALIDATION, Fit, check_early_stopping

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from continuous_training.versions.frameworks.batches import LabelledBatches
    from continuous_training.versions.frameworks.fitting import LabelledRows, Report

BOOSTER = "booster.txt"
WRAPPED = {"class_weight", "importance_type", "n_estimators"}  # parameters of estimators that boosters do not have
PATIENCE = ("early_stopping_round", "early_stopping_rounds", "early_stopping", "n_iter_no_change")
STEPS = ("num_boost_round", "num_iterations", "num_iteration", "num_trees", "num_tree", "num_rounds", "num_round")


class StoredBooster:
    """A booster as an estimator."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        self._booster = booster

    @property
    def booster_(self) -> lightgbm.Booster:
        """The booster, as LightGBM's own estimators name it."""
        return self._booster

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


def fit(estimator: lightgbm.LGBMModel, training: LabelledRows, validation: LabelledRows | None, report: Report) -> Fit:
    """Fit an estimator; its parameter `early_stopping_round` is the patience.

    Raises:
        UserError: there are several targets, or early stopping without validation rows.
    """
    if training.labels.ndim > 1:
        name = type(estimator).__name__
        raise UserError(
            f"{name} predicts one target, not a list: use scikit-learn, XGBoost, CatBoost or a class of yours"
        )
    check_early_stopping(estimator, PATIENCE, validation)
    parts = {TRAINING: training} | ({VALIDATION: validation} if validation else {})
    options: dict[str, Any] = {
        "eval_set": [(part.features, part.labels) for part in parts.values()],
        "eval_names": [*parts],
        "callbacks": [lambda step: report(step.iteration + 1, _metrics(step))],
    }
    if training.weights is not None:
        options |= {
            "sample_weight": training.weights,
            "eval_sample_weight": [part.weights for part in parts.values()],
        }
    if isinstance(estimator, lightgbm.LGBMRanker):
        sizes = [np.bincount(part.groups_for(estimator)) for part in parts.values()]
        options |= {"group": sizes[0], "eval_group": sizes}
    with warnings.catch_warnings():  # eval_X and eval_y, which are newer, do not take texts as labels
        warnings.simplefilter("ignore", lightgbm.basic.LGBMDeprecationWarning)
        estimator.fit(training.features, training.labels, **options)
    classes = np.asarray(estimator.classes_) if isinstance(estimator, lightgbm.LGBMClassifier) else None
    return Fit(classes, estimator.best_iteration_ or None)


def fix_steps(estimator: lightgbm.LGBMModel, steps: int) -> bool:
    """Let the next fit do so many steps, and not stop early."""
    names = estimator.get_params()
    others = {name: steps for name in STEPS if name in names} | {name: 0 for name in PATIENCE if name in names}
    estimator.set_params(n_estimators=steps, **others)
    return True


def _metrics(step: lightgbm.callback.CallbackEnv) -> dict[str, float]:
    return {f"{each.dataset_name}/{each.metric_name}": each.metric_value for each in step.evaluation_result_list}


class _Batch(lightgbm.Sequence):  # type: ignore[misc]
    """A batch as LightGBM reads it: single rows in their order, for the borders of the bins, and then all rows."""

    def __init__(self, batches: LabelledBatches, number: int) -> None:
        self._batches, self._number = batches, number
        self.batch_size = batches.sizes[number]

    def __len__(self) -> int:
        return int(self.batch_size)

    def __getitem__(self, index: Any) -> NDArray[np.float64]:  # noqa: ANN401 - a number or a slice
        values: NDArray[np.float64] = self._batches.features(self._number)[index]
        return values


def fit_batches(estimator: lightgbm.LGBMModel, training: LabelledBatches, report: Report) -> Fit:
    """Fit an estimator's booster: in memory is the bin of each value, which is a byte.

    Raises:
        UserError: the estimator has a parameter that only its fit in memory has.
    """
    parameters = {name: value for name, value in estimator.get_params().items() if value is not None}
    refuse({"class_weight": parameters.get("class_weight"), **{name: parameters.get(name) for name in PATIENCE}})
    refuse({"a function as objective": callable(parameters.get("objective"))})
    classes, names = None, training.columns
    if isinstance(estimator, lightgbm.LGBMClassifier):
        training, classes = training.encode()
        several = {"objective": "multiclass", "num_class": len(classes)}
        parameters = (several if len(classes) > 2 else {"objective": "binary"}) | parameters
    parameters = {"objective": "regression"} | {name: parameters[name] for name in sorted({*parameters} - WRAPPED)}
    batches = training.transform(to_numbers)
    rows = lightgbm.Dataset(
        [_Batch(batches, number) for number in range(len(batches.sizes))],
        label=training.labels.to_numpy(),
        weight=training.weights,
        feature_name=names or "auto",
        params=parameters,
    )
    booster = lightgbm.train(
        parameters,
        rows,
        num_boost_round=estimator.n_estimators,
        valid_sets=[rows],
        valid_names=[TRAINING],
        callbacks=[lambda step: report(step.iteration + 1, _metrics(step))],
    )
    return Fit(classes, estimator=StoredBooster(booster))


def save(estimator: lightgbm.LGBMModel | StoredBooster, folder: Path) -> None:
    """Write a fitted estimator's files."""
    estimator.booster_.save_model(folder / BOOSTER)


def load(folder: Path, package: str) -> StoredBooster:  # noqa: ARG001 - it needs no code of the model
    """Read them."""
    return StoredBooster(lightgbm.Booster(model_file=folder / BOOSTER))
