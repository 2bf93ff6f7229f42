"""The fit of an estimator, alone or as the last step of a scikit-learn pipeline, as its framework wants it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from continuous_training.versions.estimator import NativeEstimator, split_pipeline
from continuous_training.versions.frameworks import SCIKIT_LEARN, framework_of, load_framework, scikit_learn

if TYPE_CHECKING:
    from continuous_training.versions.frameworks.fitting import LabelledRows, Report


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
