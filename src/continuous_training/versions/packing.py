"""The packing of a version. Fit stores its files in MLflow; Train, which alone has the key, signs them."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from continuous_training.errors import UserError
from continuous_training.model_packages import SOURCES
from continuous_training.settings import package_hash
from continuous_training.versions import examination, golden_predictions, packages
from continuous_training.versions.download import MODELS, download
from continuous_training.versions.estimator import list_types, open_estimator, save_estimator
from continuous_training.versions.file_names import CODE, DESCRIPTION, MANIFEST, PACKAGES, SIGNATURE
from continuous_training.versions.manifest import Description, Manifest, hash_files, parse_manifest, read_description
from continuous_training.versions.signing import sign
from continuous_training.versions.skops_archive import Trust

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

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
    fresh: pd.DataFrame,
    nullable: Collection[str],
    predictions: NDArray[Any],
) -> str:
    """Log a fitted estimator to the active MLflow run, with its package, its packages' versions and golden predictions.

    Args:
        estimator: what `fitting.fit_estimator` returned.
        model: the model package.
        settings: its settings.
        fresh: the fresh rows.
        nullable: the columns that have nulls in the fresh rows or the training rows.
        predictions: of the estimator for the fresh rows, of shape (rows, ...).

    Returns:
        The address of the stored model.

    Raises:
        UserError: it contains types that are not trusted, or the stored estimator predicts something else.
    """
    from mlflow.models import Model, ModelSignature, infer_signature

    from continuous_training.versions import mlflow_format

    features = settings.data.features
    rows = fresh[features].head(golden_predictions.ROWS)
    trust = Trust(model, settings.model.trusted_types)
    signature = ModelSignature(_input_schema(settings, nullable), infer_signature(rows, predictions).outputs)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        framework = save_estimator(estimator, folder, trust)
        golden = _predict(open_estimator(folder, framework, trust), rows, settings)
        if difference := golden_predictions.describe_difference(golden, predictions[: len(rows)]):
            raise UserError(
                f"the stored model does not predict what the fitted one does, so it is not used: {difference}"
            )
        golden_predictions.write_golden_predictions(folder, rows, golden)
        inputs, outputs = (json.loads(schema.to_json()) for schema in (signature.inputs, signature.outputs))
        description = Description(framework=framework, inputs=inputs, outputs=outputs)
        (folder / DESCRIPTION).write_text(description.model_dump_json(), encoding="utf-8")
        installed = packages.to_requirements(packages.installed_packages())
        (folder / PACKAGES).write_text("\n".join(installed) + "\n", encoding="utf-8")
        types = list_types(folder, trust)
        stored = Model.log(
            None,
            mlflow_format,
            name="model",
            folder=folder,
            estimator=estimator,
            framework=framework,
            trusted_types=types,
            method=settings.model.method,
            package=SOURCES / model,
            signature=signature,
            input_example=rows.head(3),
            # Not all that are installed: MLflow looks up each of them several times, which takes seconds
            pip_requirements=packages.to_requirements(packages.list_packages(SOURCES / model, types)),
            validate_serving_input=False,  # MLflow would load the model and predict, which has been done here
        )
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
        description = read_description(folder)
        types = list_types(folder, Trust(model, settings.model.trusted_types))
        manifest = Manifest(
            model=model,
            run_id=run_id,
            task=settings.model.task,
            framework=description.framework,
            trusted_types=tuple(name for name in types if name in settings.model.trusted_types),
            inputs=description.inputs,
            outputs=description.outputs,
            targets=settings.data.targets,
            lineage=dict(lineage),
            python=packages.read_python_version(folder),
            packages=packages.read_packages(folder),
            files=hash_files(folder),
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
    return np.asarray(getattr(estimator, settings.model.method)(rows))


def _input_schema(settings: Settings, nullable: Collection[str]) -> Schema:
    """Return the types of the features by training.yaml, whatever the rows have; one without nulls is required."""
    from mlflow.types import ColSpec, Schema, TensorSpec

    columns: list[ColSpec | TensorSpec] = []
    for name in settings.data.features:
        column = settings.data.columns[name]
        kind = "double" if column.becomes_double else TYPES[column.type]
        columns.append(ColSpec(kind, name, required=name not in nullable))
    return Schema(columns)
