"""XGBoost: the booster in its binary JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import xgboost

from continuous_training.errors import UserError
from continuous_training.versions.frameworks.batches import refuse, to_numbers
from continuous_training.versions.frameworks.classes import read_classes
from continuous_training.versions.frameworks.fitting import TRAINING, VALIDATION, Fit, check_early_stopping

if TYPE_CHECKING:
    from pathlib import Path

    from continuous_training.versions.frameworks.batches import LabelledBatches
    from continuous_training.versions.frameworks.fitting import LabelledRows, Report

BOOSTER, PARAMETERS = "booster.ubj", "parameters.json"
STORED = ("missing", "enable_categorical")  # parameters that decide predictions and that the booster does not store
RANKS = "ranks"  # whether it is a ranker, in the same file
PATIENCE = ("early_stopping_rounds",)
RANKER = xgboost.XGBRanker
FORESTS = (xgboost.XGBRFClassifier, xgboost.XGBRFRegressor)  # their only step takes no callbacks


class _Steps(xgboost.callback.TrainingCallback):  # type: ignore[misc]
    """A callback that reports the metrics of each step."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ANN401, ARG002
        parts = zip((TRAINING, VALIDATION), evals_log.values(), strict=False)
        values = {f"{part}/{name}": series[-1] for part, metrics in parts for name, series in metrics.items()}
        self._report(epoch + 1, values)
        return False


def fit(estimator: xgboost.XGBModel, training: LabelledRows, validation: LabelledRows | None, report: Report) -> Fit:
    """Fit an estimator; its parameter `early_stopping_rounds` is the patience. Labels may be texts."""
    check_early_stopping(estimator, PATIENCE, validation)
    parts = [training, validation] if validation else [training]
    classes = None
    if isinstance(estimator, xgboost.XGBClassifier):
        classes = np.unique(training.labels.to_numpy())
        parts = [part.encode(classes) for part in parts]
    options: dict[str, Any] = {"eval_set": [(part.features, part.labels) for part in parts], "verbose": False}
    if training.weights is not None:
        options |= {
            "sample_weight": training.weights,
            "sample_weight_eval_set": [part.weights for part in parts],
        }
    if isinstance(estimator, xgboost.XGBRanker):
        if training.weights is not None:
            raise UserError("XGBRanker takes weights of groups, not of rows: remove data.weight")
        groups = [part.groups_for(estimator) for part in parts]
        options |= {"qid": groups[0], "eval_qid": groups}
    callbacks = estimator.callbacks
    if not isinstance(estimator, FORESTS):
        estimator.set_params(callbacks=[*(callbacks or []), _Steps(report)])
    try:
        estimator.fit(parts[0].features, parts[0].labels, **options)
    finally:
        estimator.set_params(callbacks=callbacks)
    is_stopped = estimator.early_stopping_rounds is not None
    return Fit(classes, estimator.best_iteration + 1 if is_stopped else None)


def fix_steps(estimator: xgboost.XGBModel, steps: int) -> bool:
    """Let the next fit do so many steps, and not stop early; a forest has one step, whatever its number of trees."""
    if isinstance(estimator, FORESTS):
        return False
    estimator.set_params(n_estimators=steps, early_stopping_rounds=None)
    return True


class _Batches(xgboost.DataIter):  # type: ignore[misc]
    """Batches as XGBoost reads them, several times."""

    def __init__(self, batches: LabelledBatches, names: list[str] | None) -> None:
        super().__init__()
        self._batches, self._names = batches, names
        self._next = iter(batches)

    def reset(self) -> None:
        """Begin again."""
        self._next = iter(self._batches)

    def next(self, input_data: Any) -> bool:  # noqa: ANN401
        """Pass the next batch on; return whether there was one."""
        rows = next(self._next, None)
        if rows is not None:
            input_data(data=rows.features, label=rows.labels, weight=rows.weights, feature_names=self._names)
        return rows is not None


def fit_batches(estimator: xgboost.XGBModel, training: LabelledBatches, report: Report) -> Fit:
    """Fit an estimator's booster: in memory is the bin of each value, which is a byte.

    Raises:
        UserError: the estimator has a parameter that only its fit in memory has.
    """
    refuse({"early_stopping_rounds": estimator.early_stopping_rounds, "XGBRanker": isinstance(estimator, RANKER)})
    refuse({"a function as objective": callable(estimator.objective), "XGBRF": isinstance(estimator, FORESTS)})
    parameters = estimator.get_xgb_params()
    classes, names = None, training.columns
    if isinstance(estimator, xgboost.XGBClassifier):
        training, classes = training.encode()
        if len(classes) > 2:
            parameters |= {"objective": "multi:softprob", "num_class": len(classes)}
    rows = xgboost.QuantileDMatrix(
        _Batches(training.transform(to_numbers), names),
        max_bin=estimator.max_bin,
        missing=estimator.missing,
        nthread=estimator.n_jobs,
    )
    booster = xgboost.train(
        parameters,
        rows,
        estimator.get_num_boosting_rounds(),
        evals=[(rows, TRAINING)],
        callbacks=[*(estimator.callbacks or []), _Steps(report)],
        verbose_eval=False,
    )
    estimator.load_model(booster.save_raw())
    return Fit(classes)


def save(estimator: xgboost.XGBModel, folder: Path) -> None:
    """Write a fitted estimator's files."""
    estimator.save_model(folder / BOOSTER)
    parameters = {name: getattr(estimator, name) for name in STORED}
    parameters[RANKS] = isinstance(estimator, xgboost.XGBRanker)
    (folder / PARAMETERS).write_text(json.dumps(parameters), encoding="utf-8")


def load(folder: Path, package: str) -> Any:  # noqa: ANN401, ARG001 - it needs no code of the model
    """Read them."""
    stored = json.loads((folder / PARAMETERS).read_bytes())
    parameters = {name: stored[name] for name in STORED}
    estimator: xgboost.XGBModel
    if read_classes(folder) is not None:
        estimator = xgboost.XGBClassifier(**parameters)
    else:
        estimator = (xgboost.XGBRanker if stored.get(RANKS) else xgboost.XGBRegressor)(**parameters)
    estimator.load_model(folder / BOOSTER)
    return estimator
