"""The estimator of a version: written as data, and opened by what the signed manifest says, never by MLflow's metadata.

Scikit-learn's estimators are a file of skops. An estimator of another framework is stored by that framework, in a
folder of its own; if it is the last step of a scikit-learn pipeline, the steps before it are the file of skops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import skops.io
from sklearn.pipeline import Pipeline

from continuous_training.errors import UserError
from continuous_training.versions import skops_archive
from continuous_training.versions.file_names import ESTIMATOR, NATIVE
from continuous_training.versions.frameworks import SCIKIT_LEARN, framework_of, load_framework
from continuous_training.versions.frameworks.classes import read_classes, write_classes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from continuous_training.versions.skops_archive import Trust


class NativeEstimator:
    """An estimator of another framework, after the transformers of a scikit-learn pipeline if there are some."""

    def __init__(self, transformers: Pipeline | None, estimator: Any, classes: NDArray[Any] | None) -> None:  # noqa: ANN401
        self.transformers, self.estimator = transformers, estimator
        if classes is not None:
            self.classes_ = classes

    @property
    def feature_names_in_(self) -> Any:  # noqa: ANN401 - as scikit-learn has it
        """The columns that it was fitted on, if it knows them."""
        return (self.transformers or self.estimator).feature_names_in_

    def predict(self, rows: Any) -> NDArray[Any]:  # noqa: ANN401
        """Return a regressor's predictions for rows, or a classifier's most probable classes."""
        if hasattr(self, "classes_"):
            most_probable: NDArray[Any] = self.classes_[self.predict_proba(rows).argmax(axis=1)]
            return most_probable
        return np.asarray(self.estimator.predict(self._transform(rows)))

    def predict_proba(self, rows: Any) -> NDArray[Any]:  # noqa: ANN401
        """Return a classifier's probabilities for rows."""
        return np.asarray(self.estimator.predict_proba(self._transform(rows)))

    def _transform(self, rows: Any) -> Any:  # noqa: ANN401
        return rows if self.transformers is None else self.transformers.transform(rows)


def save_estimator(estimator: Any, folder: Path, trust: Trust) -> str:  # noqa: ANN401
    """Write the files of a fitted estimator.

    Args:
        estimator: what `fitting.fit_estimator` returned.
        folder: gets the files.
        trust: what the file of skops may contain.

    Returns:
        The framework of its last step.

    Raises:
        UserError: it contains a type that is not trusted, or its library cannot store it.
    """
    if not isinstance(estimator, NativeEstimator):
        last = split_pipeline(estimator)[1]
        try:
            _save_with_skops(estimator, folder, trust)
        except UserError as error:
            if type(last).__module__.partition(".")[0] != trust.package:
                raise
            advice = f"{type(last).__name__} can store itself, with save(folder) and a class method load(folder)"
            raise UserError(f"{error}; {advice}") from error
        return SCIKIT_LEARN
    last, framework = estimator.estimator, framework_of(estimator.estimator, trust.package)
    if estimator.transformers is not None:
        _save_with_skops(estimator.transformers, folder, trust)
    (folder / NATIVE).mkdir()
    if hasattr(estimator, "classes_"):
        write_classes(np.asarray(estimator.classes_), folder / NATIVE)
    try:
        load_framework(framework).save(last, folder / NATIVE)
    except UserError:
        raise
    except Exception as error:  # whatever a library or the model's own code raises
        raise UserError(f"{type(last).__name__} cannot be stored: {str(error) or type(error).__name__}") from error
    return framework


def open_estimator(folder: Path, framework: str, trust: Trust) -> Any:  # noqa: ANN401
    """Examine the files of an estimator and open it.

    Args:
        folder: the version's files.
        framework: the framework of its last step.
        trust: what the file of skops may contain.

    Raises:
        UserError: it contains something that is not trusted, or cannot be read.
    """
    if framework == SCIKIT_LEARN:
        return _load_with_skops(folder / ESTIMATOR, trust)
    transformers = _load_with_skops(folder / ESTIMATOR, trust) if (folder / ESTIMATOR).exists() else None
    try:
        estimator = load_framework(framework).load(folder / NATIVE, trust.package)
        return NativeEstimator(transformers, estimator, read_classes(folder / NATIVE))
    except UserError:
        raise
    except Exception as error:  # whatever a reader of hostile bytes raises
        raise UserError(f"its estimator cannot be opened: {str(error) or type(error).__name__}") from error


def list_types(folder: Path, trust: Trust) -> list[str]:
    """Return what the file of skops contains that skops does not trust by itself; nothing if there is no such file.

    Raises:
        UserError: it contains something that is not trusted, or cannot be read.
    """
    return skops_archive.examine_file(folder / ESTIMATOR, trust) if (folder / ESTIMATOR).exists() else []


def split_pipeline(estimator: Any) -> tuple[Pipeline | None, Any]:  # noqa: ANN401
    """Return the steps of a pipeline before the last one, if there are some, and the last one."""
    if type(estimator) is not Pipeline:
        return None, estimator
    return (estimator[:-1] if len(estimator) > 1 else None), estimator[-1]


def _save_with_skops(estimator: Any, folder: Path, trust: Trust) -> None:  # noqa: ANN401
    try:
        skops.io.dump(estimator, folder / ESTIMATOR)
    except Exception as error:  # a type that skops does not support
        raise UserError(f"{type(estimator).__name__} cannot be stored: {str(error) or type(error).__name__}") from error
    if untrusted := _find_untrusted(folder / ESTIMATOR, skops_archive.examine_file(folder / ESTIMATOR, trust)):
        raise UserError(describe_untrusted(untrusted))


def _load_with_skops(path: Path, trust: Trust) -> Any:  # noqa: ANN401
    names = skops_archive.examine_file(path, trust)
    try:
        untrusted = _find_untrusted(path, names)
        estimator = None if untrusted else skops.io.load(path, trusted=names)
    except Exception as error:  # whatever a reader of hostile bytes raises
        raise UserError(f"its estimator cannot be opened: {str(error) or type(error).__name__}") from error
    if untrusted:
        raise UserError(describe_untrusted(untrusted))
    return estimator


def _find_untrusted(path: Path, names: list[str]) -> list[str]:
    return sorted(set(skops.io.get_untrusted_types(file=path)) - set(names))


def describe_untrusted(names: list[str]) -> str:
    """Return a message about classes that are not trusted, and what to do."""
    return (
        f"its estimator contains {', '.join(names)}, not trusted: if these are classes that you trust, add them to "
        "model.trusted_types in training.yaml"
    )
