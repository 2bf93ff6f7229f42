"""Versions that were stored before versions were signed. training.yaml can allow them, until there is a newer one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from continuous_training.errors import UserError
from continuous_training.versions.manifest import Manifest, hash_files

if TYPE_CHECKING:
    from pathlib import Path

    from continuous_training.settings import Model

METADATA = "MLmodel"
MAX_BYTES = 2**20


def describe(folder: Path, model: str, run_id: str, settings: Model) -> Manifest:
    """Return what the manifest of such a version would be; of MLflow's metadata only the signature is used.

    Raises:
        UserError: it was not stored with skops, or MLflow's metadata cannot be read.
    """
    try:
        stored = _read_metadata(folder / METADATA)
        signature = stored["signature"]
        inputs, outputs = (json.loads(signature[part]) for part in ("inputs", "outputs"))
        is_skops = stored["flavors"]["sklearn"]["serialization_format"] == "skops"
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"its {METADATA} cannot be read: {error}") from None
    if not is_skops:
        raise UserError("it was not stored with skops")
    return Manifest(
        model=model,
        run_id=run_id,
        task=settings.task,
        trusted_types=settings.trusted_types,
        inputs=inputs,
        outputs=outputs,
        lineage={},
        files=hash_files(folder),
    )


def _read_metadata(path: Path) -> Any:  # noqa: ANN401 - any YAML
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES >> 20} MB")
    text = path.read_text(encoding="utf-8")
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):  # a few could expand to gigabytes
        raise ValueError("it has aliases")
    return yaml.safe_load(text)
