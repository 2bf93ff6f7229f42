"""What a version was made from: the tags of its MLflow run or, once that is gone, the signed manifest in its files."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from continuous_training.errors import UserError
from continuous_training.registry import model_versions
from continuous_training.versions.examination import Policy
from continuous_training.versions.opening import examined_version

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings
    from continuous_training.versions.manifest import Manifest

log = logging.getLogger(__name__)


def read_lineage(
    client: MlflowClient, version: Version, settings: Settings, manifest: Manifest | None = None
) -> dict[str, str]:
    """Return the tags of the MLflow run that made a version; empty if nothing is known of it any more.

    A run can be purged while the files of its version stay: MLflow stores them apart from those of the run.

    Args:
        client: of MLflow.
        version: the version.
        settings: the settings of the model.
        manifest: the version's manifest, if it has been opened already.
    """
    tags = model_versions.run_tags(client, version)
    if tags is not None:
        return tags
    loss = f"MLflow run {version.run_id} of version {version.number} of {version.name} no longer exists"
    try:
        lineage = manifest.lineage if manifest else _read_signed_lineage(version, settings)
    except UserError as error:
        log.warning("%s, and its manifest cannot be read: what it was trained on is unknown (%s)", loss, error)
        return {}
    log.warning("%s: what it was trained on is read from its signed manifest", loss)
    return lineage


def _read_signed_lineage(version: Version, settings: Settings) -> dict[str, str]:
    with examined_version(version.uri, Policy(version.name, settings.model), version.run_id) as (_, manifest):
        return manifest.lineage
