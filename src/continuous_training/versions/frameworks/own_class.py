"""A class of the model's package that stores itself: `save(folder)`, and `load(folder)` as a class method.

So PyTorch, Keras, statsmodels, Prophet or a rule book become a model. `fit`, `predict` and, for a classifier,
`predict_proba` and `classes_` are as in scikit-learn, and so is what `fit` takes beside rows and labels. As the last
step of a pipeline it has to inherit from scikit-learn's `BaseEstimator`, which the pipeline requires.

A class that stops early has a method `set_steps(steps)` too: its next fit, on more rows, does so many steps and has no
validation rows.

With `model.batches`, its method `fit_batches(batches)` takes the place of `fit`. Each iteration over `batches` reads
the rows again; a batch has `features`, `labels` and `weights`, and `batches.labels` has the labels of all rows.
"""

from __future__ import annotations

import importlib
import inspect
import json
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError
from continuous_training.versions.frameworks.fitting import Fit
from continuous_training.versions.frameworks.scikit_learn import fit

if TYPE_CHECKING:
    from pathlib import Path

    from continuous_training.versions.frameworks.batches import LabelledBatches
    from continuous_training.versions.frameworks.fitting import Report

__all__ = ["fit", "fit_batches", "fix_steps", "load", "save"]

CLASS = "class.json"


def fit_batches(estimator: Any, training: LabelledBatches, report: Report) -> Fit:  # noqa: ANN401 - any class
    """Let a class fit batches, with its method `fit_batches`.

    Raises:
        UserError: it has no such method.
    """
    if not hasattr(estimator, "fit_batches"):
        raise UserError(f"{type(estimator).__name__} has no method fit_batches: add it, or remove model.batches")
    takes_callback = "callback" in inspect.signature(estimator.fit_batches).parameters
    estimator.fit_batches(training, **({"callback": report} if takes_callback else {}))
    return Fit(getattr(estimator, "classes_", None))


def fix_steps(estimator: Any, steps: int) -> bool:  # noqa: ANN401 - any class
    """Let the next fit do so many steps, if the class has a method `set_steps`; return whether it has."""
    if not hasattr(estimator, "set_steps"):
        return False
    estimator.set_steps(steps)
    return True


def save(estimator: Any, folder: Path) -> None:  # noqa: ANN401 - any class
    """Let a fitted estimator write its files.

    Raises:
        UserError: what it writes could not be loaded.
    """
    if not isinstance(inspect.getattr_static(estimator, "load"), classmethod | staticmethod):
        raise UserError(f"{type(estimator).__name__}.load is not a class method: write @classmethod above it")
    estimator.save(folder)
    if (folder / CLASS).exists():
        raise UserError(f"{type(estimator).__name__}.save has written {CLASS}, a name that is needed here")
    name = {"module": type(estimator).__module__, "class": type(estimator).__qualname__}
    (folder / CLASS).write_text(json.dumps(name), encoding="utf-8")


def load(folder: Path, package: str) -> Any:  # noqa: ANN401
    """Let the class read them.

    Raises:
        UserError: the class is not one of the model's package.
    """
    content = json.loads((folder / CLASS).read_bytes())
    module, name = str(content["module"]), str(content["class"])
    if module.partition(".")[0] != package:
        raise UserError(f"its class {module}.{name} is not one of the package {package}")
    definition = getattr(importlib.import_module(module), name, None)
    if not isinstance(definition, type) or (definition.__module__, definition.__qualname__) != (module, name):
        raise UserError(f"its class {module}.{name} is not defined there")
    return definition.load(folder)  # type: ignore[attr-defined]
