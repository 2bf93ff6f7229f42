"""The format in which MLflow sees a version, for its pages and `mlflow models serve`; nothing here opens one by it.

An estimator of scikit-learn has MLflow's flavor of that name. All others are a Python function that this module loads,
so MLflow needs this project where it loads them. `Model.log` calls `save_model`, as that of one of MLflow's flavors.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow.pyfunc
import mlflow.sklearn

from continuous_training.versions.estimator import open_estimator
from continuous_training.versions.frameworks import SCIKIT_LEARN
from continuous_training.versions.manifest import read_description
from continuous_training.versions.skops_archive import Trust

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import Model
    from numpy.typing import NDArray


class PythonFunction:
    """A version as MLflow's Python function."""

    def __init__(self, estimator: Any, method: str) -> None:  # noqa: ANN401 - any estimator
        self._estimator, self._method = estimator, method

    def predict(self, rows: pd.DataFrame, params: object = None) -> NDArray[Any]:  # noqa: ARG002 - MLflow passes them
        """Return the predictions for rows."""
        return getattr(self._estimator, self._method)(rows)  # type: ignore[no-any-return]

    def get_raw_model(self) -> Any:  # noqa: ANN401
        """Return the estimator; `mlflow.pyfunc.load_model(...).get_raw_model()` calls it."""
        return self._estimator


def save_model(
    path: str,
    mlflow_model: Model,
    folder: Path,
    estimator: Any,  # noqa: ANN401
    framework: str,
    trusted_types: list[str],
    method: str,
    package: Path,
    validate_serving_input: bool,  # noqa: ARG001
    **metadata: Any,  # noqa: ANN401
) -> None:
    """Write a version into a folder, as MLflow's flavors write theirs.

    Args:
        path: the folder.
        mlflow_model: MLflow's metadata.
        folder: the files of the version.
        estimator: the fitted estimator.
        framework: its framework.
        trusted_types: what its file of skops contains.
        method: the method that predicts.
        package: the folder of the model's package.
        validate_serving_input: whether MLflow then loads what was written; `Model.log` reads it.
        **metadata: `signature`, `input_example` and `pip_requirements`, as for every flavor of MLflow.
    """
    metadata |= {"mlflow_model": mlflow_model, "code_paths": [str(package)]}
    if framework == SCIKIT_LEARN:
        mlflow.sklearn.save_model(
            estimator,
            path,
            serialization_format="skops",
            skops_trusted_types=trusted_types,
            pyfunc_predict_fn=method,
            **metadata,
        )
    else:
        config = {"package": package.name, "method": method, "trusted_types": trusted_types}
        mlflow.pyfunc.save_model(path, loader_module=__name__, model_config=config, **metadata)
    shutil.copytree(folder, path, dirs_exist_ok=True)


def _load_pyfunc(path: str, model_config: dict[str, Any]) -> PythonFunction:
    """Open a version for MLflow, which calls this function by its name."""
    folder = Path(path)
    trust = Trust(model_config["package"], tuple(model_config["trusted_types"]))
    estimator = open_estimator(folder, read_description(folder).framework, trust)
    return PythonFunction(estimator, model_config["method"])
