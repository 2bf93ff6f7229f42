"""The packing of a version. Fit stores its files in MLflow; Train, which alone has the key, signs them.

MLflow sees a scikit-learn model of its usual format, so that its pages and `mlflow models serve` work with it.
"""

from __future__ import annotations

import io
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import skops.io

from continuous_training.errors import UserError
from continuous_training.model_packages import SOURCES
from continuous_training.settings import package_hash
from continuous_training.versions import examination, golden_predictions, packages, skops_archive, unsigned
from continuous_training.versions.download import MODELS, download
from continuous_training.versions.estimator import describe_untrusted
from continuous_training.versions.file_names import CODE, MANIFEST, PACKAGES, SIGNATURE
from continuous_training.versions.manifest import parse_manifest
from continuous_training.versions.signing import sign
from continuous_training.versions.skops_archive import Trust

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.types import Schema
    from numpy.typing import NDArray

    from continuous_training.settings import Settings

log = logging.getLogger(__name__)

TYPES = {"category": "string", "number": "double", "integer": "long", "boolean": "boolean", "timestamp": "datetime"}


def log_files(
    estimator: Any,  # noqa: ANN401
    model: str,
    settings: Settings,
    parts: Sequence[pd.DataFrame],
    predictions: NDArray[Any],
) -> str:
    """Log a fitted estimator to the active MLflow run, with its package, its packages' versions and golden predictions.

    Args:
        estimator: the fitted estimator.
        model: the model package.
        settings: its settings.
        parts: the training rows and the fresh rows.
        predictions: of the estimator for the fresh rows, of shape (rows, ...).

    Returns:
        The address of the stored model.

    Raises:
        UserError: it contains types that are not trusted, or the stored estimator predicts something else.
    """
    import mlflow
    import mlflow.sklearn
    from mlflow.models import ModelSignature, infer_signature

    features = settings.data.features
    rows = parts[-1][features].head(golden_predictions.ROWS)
    content = skops.io.dumps(estimator)
    names = skops_archive.examine(io.BytesIO(content), Trust(model, settings.model.trusted_types))
    if untrusted := sorted(set(skops.io.get_untrusted_types(data=content)) - set(names)):
        raise UserError(describe_untrusted(untrusted))
    golden = _predict(skops.io.loads(content, trusted=names), rows, settings)
    if not np.allclose(golden, predictions[: len(rows)], rtol=0, atol=1e-12):
        raise UserError("the stored model does not predict what the fitted one does: it is not used")
    outputs = infer_signature(rows, predictions).outputs
    stored = mlflow.sklearn.log_model(
        estimator,
        name="model",
        serialization_format="skops",
        skops_trusted_types=names,
        signature=ModelSignature(inputs=_input_schema(settings, parts), outputs=outputs),
        input_example=rows.head(3),
        pyfunc_predict_fn="predict_proba" if settings.model.task == "classification" else "predict",
        # Not all that are installed: MLflow looks up each of them several times, which takes seconds
        pip_requirements=packages.to_requirements(
            packages.list_packages(SOURCES / model, settings.model.trusted_types)
        ),
        code_paths=[str(SOURCES / model)],
    )
    with tempfile.TemporaryDirectory() as folder:
        golden_predictions.write_golden_predictions(Path(folder), rows, golden)
        installed = packages.to_requirements(packages.installed_packages())
        Path(folder, PACKAGES).write_text("\n".join(installed) + "\n", encoding="utf-8")
        mlflow.MlflowClient().log_model_artifacts(stored.model_id, folder)
    return str(stored.model_uri)


def sign_files(
    client: MlflowClient, model_uri: str, model: str, settings: Settings, run_id: str, lineage: Mapping[str, str]
) -> None:
    """Sign the files of a candidate, unless an interrupted run has done so.

    Args:
        client: of MLflow.
        model_uri: the address of the stored model.
        model: the model package.
        settings: its settings.
        run_id: the MLflow run that made it.
        lineage: what it was made from.

    Raises:
        UserError: the files are not those of a version, or the package in it is not the one in this workspace.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "version")
        folder.mkdir()
        download(model_uri, folder)
        if (folder / MANIFEST).exists() and (folder / SIGNATURE).exists():
            examination.examine(folder, examination.Policy(model, settings.model), run_id)
            return
        if package_hash(folder / CODE, model) != package_hash(SOURCES, model):
            raise UserError(f"the package {model} of the candidate is not the one in src/: run again with FORCE=true")
        described = unsigned.describe(folder, model, run_id, settings.model)
        manifest = described.model_copy(
            update={
                "lineage": dict(lineage),
                "python": packages.read_python_version(folder),
                "packages": packages.read_packages(folder),
            }
        )
        examination.check_files(folder, manifest)
        content = manifest.model_dump_json(indent=2).encode()
        parse_manifest(content)  # what cannot be read again is not signed
        signature = Path(temporary, "signature")
        signature.mkdir()
        (signature / MANIFEST).write_bytes(content)
        (signature / SIGNATURE).write_text(sign(content) + "\n", encoding="ascii")
        client.log_model_artifacts(model_uri.removeprefix(MODELS), str(signature))


def _predict(estimator: Any, rows: pd.DataFrame, settings: Settings) -> NDArray[Any]:  # noqa: ANN401
    method = estimator.predict_proba if settings.model.task == "classification" else estimator.predict
    return np.asarray(method(rows))


def _input_schema(settings: Settings, parts: Sequence[pd.DataFrame]) -> Schema:
    """Return the types of the features by training.yaml, whatever the rows have; one without nulls is required."""
    from mlflow.types import ColSpec, Schema, TensorSpec

    columns: list[ColSpec | TensorSpec] = []
    for name in settings.data.features:
        column = settings.data.columns[name]
        kind = "double" if column.becomes_double else TYPES[column.type]
        has_nulls = any(part[name].isna().any() for part in parts)
        columns.append(ColSpec(kind, name, required=not has_nulls))
    return Schema(columns)
