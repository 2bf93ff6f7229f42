"""A model's estimator: built, fitted on a part of the training rows, and scored on another one."""

from __future__ import annotations

import importlib
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from continuous_training.comparison import evaluation
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.compute import gpus
from continuous_training.errors import UserError
from continuous_training.extras import describe_missing
from continuous_training.function_references import describe
from continuous_training.model_packages import SOURCES
from continuous_training.settings.training import method_of
from continuous_training.training import fitting
from continuous_training.training.validation import split_newest
from continuous_training.versions.estimator import NativeEstimator
from continuous_training.versions.frameworks.batches import LabelledBatches
from continuous_training.versions.frameworks.fitting import LabelledRows, StopFit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from continuous_training.data.row_groups import RowGroups
    from continuous_training.settings import Data, Settings
    from continuous_training.versions.frameworks.fitting import Report

log = logging.getLogger(__name__)

SEVERAL_TARGETS = (  # advice after an error of an estimator that may have been made for one
    "; data.target is a list, so it must predict several targets, as scikit-learn's MultiOutputRegressor around any "
    "estimator, or CatBoost with loss_function: MultiRMSE"
)


def build_estimator(model: str, settings: Settings, parameters: dict[str, Any]) -> Any:  # noqa: ANN401 - any estimator
    """Return the unfitted estimator of a model package.

    Raises:
        UserError: the package cannot be imported, has no `build`, or it fails, with these parameters for example; or
            this instance has GPUs that the package's libraries cannot use.
    """
    try:
        build = importlib.import_module(f"{model}.model").build
    except ModuleNotFoundError as error:
        raise UserError(f"src/{model}/model.py cannot be imported: {describe_missing(error)}") from error
    except (ImportError, AttributeError) as error:
        raise UserError(f"src/{model}/model.py has no function build: {error}") from error
    parts = {kind: settings.data.features_of(kind) for kind in ("category", "number")}
    try:
        estimator = build(categories=parts["category"], numbers=parts["number"], **parameters)
    except Exception as error:  # whatever the model's own code raises
        raise UserError(f"build in src/{model}/model.py raised {describe(error)}") from error
    gpus.check_libraries(SOURCES / model)
    return estimator


def fit_estimator(
    estimator: Any,  # noqa: ANN401
    model: str,
    rows: pd.DataFrame,
    settings: Settings,
    report: Report,
) -> tuple[Any, int | None]:
    """Fit an estimator on rows, but for the newest `validation_days`, which stop the fit early.

    Returns:
        The estimator in the form in which it is stored, and the step whose model it uses, if that is not the last one.

    Raises:
        UserError: it cannot be fitted on these rows, or lacks what its task needs.
        StopFit: `report` has raised it.
    """
    name, task, days = type(estimator).__name__, settings.model.task, settings.model.validation_days
    validation = None
    if days is not None:
        rows, newest = split_newest(rows, days, "model.validation_days", settings)
        validation = _label(newest, settings)
        log.info("%s rows of the last %s days stop the fit early", f"{len(newest):,}", days)
    log.info("Fitting %s on %s rows of %d features", name, f"{len(rows):,}", len(settings.data.features))
    with _explain_errors(name, settings.data):
        fitted, best_step = fitting.fit_estimator(estimator, model, _label(rows, settings), validation, report)
    _check_fitted(fitted, name, task)
    return fitted, best_step


def fit_in_batches(
    estimator: Any,  # noqa: ANN401
    model: str,
    sample: pd.DataFrame,
    rows: RowGroups,
    settings: Settings,
    report: Report,
) -> tuple[Any, int | None]:
    """Fit an estimator on rows beyond memory, and return it as `fit_estimator` does.

    Args:
        estimator: the unfitted estimator.
        model: the model package.
        sample: a sample of the rows, for the steps before the estimator.
        rows: all rows.
        settings: the settings of the model.
        report: receives the metrics of each step.

    Raises:
        UserError: it cannot be fitted on these rows in batches.
    """
    data, name = settings.data, type(estimator).__name__
    weights = None if data.weight is None else rows.read_column(data.weight).to_numpy(np.float64)
    batches = LabelledBatches(
        lambda number: rows.read(number, data.features)[data.features],
        data.features,
        rows.sizes,
        rows.read_column(data.targets[0]),
        weights,
    )
    total = f"{len(batches.labels):,} rows of {len(data.features)} features"
    log.info("Fitting %s on %s in %d batches", name, total, len(rows.sizes))
    with _explain_errors(name, settings.data):
        fitted, best_step = fitting.fit_in_batches(estimator, model, _label(sample, settings), batches, report)
    _check_fitted(fitted, name, settings.model.task)
    return fitted, best_step


@contextmanager
def _explain_errors(name: str, data: Data) -> Iterator[None]:
    """Say of which estimator's fit an error is, and what several targets need."""
    try:
        yield
    except (UserError, StopFit):
        raise
    except Exception as error:  # whatever a library or the model's own code raises
        advice = SEVERAL_TARGETS if len(data.targets) > 1 else ""
        raise UserError(f"{name} cannot be fitted: {str(error).strip() or type(error).__name__}{advice}") from error


def _check_fitted(fitted: Any, name: str, task: str) -> None:  # noqa: ANN401
    """Check that what a fit has returned has what its task needs; `name` is that of the estimator's class.

    Raises:
        UserError: it lacks a method or an attribute, or its classes are not sorted.
    """
    method = method_of(task)
    missing = [] if hasattr(fitted.estimator if isinstance(fitted, NativeEstimator) else fitted, method) else [method]
    if task == "classification" and not hasattr(fitted, "classes_"):
        missing.append("classes_")
    if missing:
        raise UserError(f"{name} has no {' and no '.join(missing)}, which the task {task} needs")
    if task == "classification" and (classes := list(fitted.classes_)) != sorted(classes):
        order = ", ".join(map(str, classes))
        raise UserError(
            f"{name}.classes_ is {order}: sort it, as np.unique does; the second of two is the positive class"
        )


def _label(rows: pd.DataFrame, settings: Settings) -> LabelledRows:
    data, weights, groups = settings.data, None, None
    if data.group is not None:
        rows = rows.sort_values(data.group, kind="stable")
        groups = pd.factorize(rows[data.group], use_na_sentinel=False)[0]
    if data.weight is not None:
        weights = rows[data.weight].to_numpy(np.float64)
    return LabelledRows(rows[data.features], rows[data.target], weights, groups)


def validate(
    model: str,
    train: pd.DataFrame,
    settings: Settings,
    parameters: dict[str, Any],
    report: Report,
) -> float:
    """Fit on all but the newest `fresh_days` of the training rows, and score on those, as Compare does later.

    If the best parameters were chosen by the fresh rows, their score would be biased upwards in Compare, which uses the
    same rows.

    Raises:
        UserError: there are no rows before those days, or a part has only one class.
        StopFit: `report` has raised it.
    """
    data = settings.data
    key = "model.grid" if settings.model.grid else "model.search"
    before, last = split_newest(train, data.usual_fresh_days, key, settings)
    log.info("Validating on %s rows after fitting on %s", f"{len(last):,}", f"{len(before):,}")
    fitted, _ = fit_estimator(build_estimator(model, settings, parameters), model, before, settings, report)
    predictions = evaluation.predict(fitted, last[data.features], settings.model.task, len(data.targets))
    return evaluation.score(settings.compare.metric, predictions, GroundTruth.of(last, settings))
