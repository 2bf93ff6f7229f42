"""The frameworks in which an estimator can be made: how each one's is fitted, stored, and opened again.

A framework is a module here with three functions, and a row of `FRAMEWORKS`:

    fit(estimator, training, validation, report) -> Fit   as its library wants rows, weights and validation rows
    save(estimator, folder)                               writes the fitted estimator's files: data, and no code
    load(folder, package) -> estimator                    reads them; `package` is the model's package, whose code has
                                                          been examined

A framework that fits rows beyond memory also has `fit_batches(estimator, training, report) -> Fit`, whose rows are
`LabelledBatches`.

A classifier's folder has `classes.json`. The estimator that `load` returns has `predict_proba` if it is a classifier,
else `predict`. `fit` and `load` raise whatever their library raises; `load` runs in the process of a version.
Scikit-learn has only `fit`: its estimators are stored by skops.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

from continuous_training.errors import UserError
from continuous_training.extras import describe_missing

if TYPE_CHECKING:
    from pathlib import Path

    from continuous_training.versions.frameworks.fitting import Fit, LabelledRows, Report

SCIKIT_LEARN, OWN_CLASS = "scikit-learn", "own class"
FRAMEWORKS = {  # the name of the library that defines the estimator's class, or OWN_CLASS: the module here
    "catboost": "catboost",
    "lightgbm": "lightgbm",
    "xgboost": "xgboost",
    OWN_CLASS: "own_class",
}


class Framework(Protocol):
    """What a module of a framework has."""

    def fit(self, estimator: Any, training: LabelledRows, validation: LabelledRows | None, report: Report) -> Fit:  # noqa: ANN401 - any estimator
        """Fit an estimator, and report each step."""

    def fix_steps(self, estimator: Any, steps: int) -> bool:  # noqa: ANN401
        """Let the next fit do so many steps, and not stop early; return False if the estimator has no such steps."""

    def save(self, estimator: Any, folder: Path) -> None:  # noqa: ANN401
        """Write a fitted estimator's files."""

    def load(self, folder: Path, package: str) -> Any:  # noqa: ANN401
        """Read them."""


def framework_of(estimator: Any, package: str) -> str:  # noqa: ANN401
    """Return the name of the framework that stores an estimator.

    Args:
        estimator: a fitted estimator.
        package: the model's package.
    """
    library = type(estimator).__module__.removeprefix(f"{__name__}.").partition(".")[0]
    if library == package and hasattr(estimator, "save") and hasattr(type(estimator), "load"):
        return OWN_CLASS
    return library if library in FRAMEWORKS else SCIKIT_LEARN


def load_framework(name: str) -> Framework:
    """Import the module of a framework.

    Raises:
        UserError: there is no such framework, or its library is not installed.
    """
    if name not in FRAMEWORKS:
        raise UserError(f"its framework {name!r} is none of {', '.join(sorted(FRAMEWORKS))}")
    try:
        module: Any = importlib.import_module(f"{__name__}.{FRAMEWORKS[name]}")
    except ModuleNotFoundError as error:
        raise UserError(describe_missing(error)) from None
    return module  # type: ignore[no-any-return]
