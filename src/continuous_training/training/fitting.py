"""The fit of an estimator, alone or as the last step of a scikit-learn pipeline, as its framework wants it."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError
from continuous_training.versions.estimator import NativeEstimator, split_pipeline
from continuous_training.versions.frameworks import SCIKIT_LEARN, framework_of, load_framework, scikit_learn

if TYPE_CHECKING:
    from continuous_training.versions.frameworks.batches import LabelledBatches
    from continuous_training.versions.frameworks.fitting import LabelledRows, Report

log = logging.getLogger(__name__)


def fit_in_batches(
    estimator: Any,  # noqa: ANN401
    package: str,
    sample: LabelledRows,
    training: LabelledBatches,
    report: Report,
) -> tuple[NativeEstimator, int | None]:
    """Fit an estimator on rows that are larger than memory, and return it as `fit_estimator` does.

    Args:
        estimator: the unfitted estimator.
        package: the model's package.
        sample: a sample of the rows, on which the steps of a pipeline before the last one are fitted.
        training: all rows.
        report: receives the metrics of each step.

    Raises:
        UserError: its framework does not fit rows in batches. Its library may raise any other exception.
    """
    transformers, last = split_pipeline(estimator)
    framework = framework_of(last, package)
    library: Any = None if framework == SCIKIT_LEARN else load_framework(framework)
    if not hasattr(library, "fit_batches"):
        raise UserError(
            f"{type(last).__name__} cannot be fitted in batches, only estimators of LightGBM and XGBoost and classes "
            "with fit_batches can: use one, or remove model.batches"
        )
    if transformers is not None:
        log.info("Fitting the steps before %s on a sample of %s rows", type(last).__name__, f"{len(sample.labels):,}")
        transformers.fit(sample.features, sample.labels)
        training = training.transform(transformers.transform)
    fit = library.fit_batches(last, training, report)
    return NativeEstimator(transformers, last if fit.estimator is None else fit.estimator, fit.classes), fit.best_step


def fix_steps(estimator: Any, package: str, steps: int) -> bool:  # noqa: ANN401
    """Let the next fit of an estimator, or of the last step of a pipeline, do so many steps, and not stop early.

    Args:
        estimator: the unfitted estimator; it is changed in place.
        package: the model's package.
        steps: the number of boosting rounds or epochs.

    Returns:
        Whether it has such steps. If not, it is unchanged.
    """
    last = split_pipeline(estimator)[1]
    framework = framework_of(last, package)
    library = scikit_learn if framework == SCIKIT_LEARN else load_framework(framework)
    return library.fix_steps(last, steps)


def fit_estimator(
    estimator: Any,  # noqa: ANN401
    package: str,
    training: LabelledRows,
    validation: LabelledRows | None,
    report: Report,
) -> tuple[Any, int | None]:
    """Fit an estimator, and return it in the form in which it is stored, as if it had been opened.

    The steps of a pipeline before the last one are fitted on the training rows alone; they transform the others, too.

    Args:
        estimator: the unfitted estimator; it is fitted in place.
        package: the model's package.
        training: the rows to fit on.
        validation: those that stop the fit early; it is not fitted on them.
        report: receives the metrics of each step.

    Returns:
        The fitted estimator, and the step whose model it uses, if that is not the last one.

    Raises:
        UserError: it does not take weights or validation rows. Its library may raise any other exception.
    """
    transformers, last = split_pipeline(estimator)
    if transformers is not None:
        features = transformers.fit_transform(training.features, training.labels)
        training = dataclasses.replace(training, features=features)
        if validation is not None:
            validation = dataclasses.replace(validation, features=transformers.transform(validation.features))
        estimator.steps[:-1] = transformers.steps  # with Pipeline.memory, these are copies
    framework = framework_of(last, package)
    library = scikit_learn if framework == SCIKIT_LEARN else load_framework(framework)
    fit = library.fit(last, training, validation, report)
    return (estimator if framework == SCIKIT_LEARN else NativeEstimator(transformers, last, fit.classes)), fit.best_step
