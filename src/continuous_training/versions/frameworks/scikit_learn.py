"""Scikit-learn, and classes of a model's package: what their `fit` takes beside rows and labels is in its signature.

`sample_weight` receives the weights; `X_val`, `y_val` and `sample_weight_val` the validation rows, as in scikit-learn's
histogram gradient boosting; `callback` a function that is called with the number of each step and its metrics.
"""

from __future__ import annotations

import inspect
import re
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import TextIOBase
from typing import TYPE_CHECKING, Any

from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from continuous_training.errors import UserError
from continuous_training.versions.frameworks.fitting import TRAINING, VALIDATION, Fit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from continuous_training.versions.frameworks.fitting import LabelledRows, Report

HISTOGRAM_BOOSTING = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
SCORES = re.compile(r"(train|val) (loss|score): (\S+),")  # in a line that they print for each iteration


def fit(estimator: Any, training: LabelledRows, validation: LabelledRows | None, report: Report) -> Fit:  # noqa: ANN401
    """Fit an estimator.

    Raises:
        UserError: there are weights or validation rows, which its `fit` does not take.
    """
    name, parameters = type(estimator).__name__, inspect.signature(estimator.fit).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    options: dict[str, Any] = {}
    if training.weights is not None:
        if "sample_weight" not in parameters and not takes_any:
            raise UserError(f"{name}.fit takes no sample_weight: remove data.weight, or use another estimator")
        options["sample_weight"] = training.weights
    if validation is not None:
        if not {"X_val", "y_val"} <= parameters.keys():
            raise UserError(f"{name}.fit takes no validation rows as X_val and y_val: remove model.validation_days")
        options |= {"X_val": validation.features, "y_val": validation.labels}
        if validation.weights is not None and "sample_weight_val" in parameters:
            options["sample_weight_val"] = validation.weights
        if isinstance(estimator, HISTOGRAM_BOOSTING) and estimator.early_stopping == "auto":
            estimator.set_params(early_stopping=True)  # "auto" stops early only with more than 10,000 rows
    if "callback" in parameters:
        options["callback"] = report
    prints = isinstance(estimator, HISTOGRAM_BOOSTING) and not estimator.verbose
    with _report_prints(estimator, report) if prints else nullcontext():
        estimator.fit(training.features, training.labels, **options)
    steps = estimator.n_iter_ if isinstance(estimator, HISTOGRAM_BOOSTING) else None
    return Fit(getattr(estimator, "classes_", None), steps)


def fix_steps(estimator: Any, steps: int) -> bool:  # noqa: ANN401
    """Let the next fit of a histogram gradient boosting do so many steps, and not stop early; False for others."""
    if not isinstance(estimator, HISTOGRAM_BOOSTING):
        return False
    estimator.set_params(max_iter=steps, early_stopping=False)
    return True


@contextmanager
def _report_prints(estimator: Any, report: Report) -> Iterator[None]:  # noqa: ANN401
    """Report the iterations that a histogram gradient boosting prints: it has no callbacks."""
    estimator.set_params(verbose=2)  # 1 prints only a summary
    try:
        with redirect_stdout(_Iterations(report)):
            yield
    finally:
        estimator.set_params(verbose=0)


class _Iterations(TextIOBase):
    """A text file that reports the lines with scores."""

    def __init__(self, report: Report) -> None:
        self._report, self._step = report, 0

    def write(self, text: str) -> int:
        if scores := SCORES.findall(text):
            self._step += 1
            names = {"train": TRAINING, "val": VALIDATION}
            self._report(self._step, {f"{names[part]}/{kind}": float(value) for part, kind, value in scores})
        return len(text)
