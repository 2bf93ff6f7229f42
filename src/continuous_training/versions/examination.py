"""The examination of a version before it is opened: who signed it, and whether every file is as it was then."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from continuous_training.errors import UserError
from continuous_training.versions import signing, unsigned
from continuous_training.versions.file_names import CODE, MANIFEST, SIGNATURE
from continuous_training.versions.manifest import (
    MAX_BYTES,
    hash_file,
    is_of_estimator,
    list_files,
    parse_manifest,
)

if TYPE_CHECKING:
    from pathlib import Path

    from continuous_training.settings import Model
    from continuous_training.versions.manifest import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Policy:
    """Which versions of a model may be opened, and what those may contain that were stored before versions were signed.

    Attributes:
        model: the registered model, and its package.
        settings: the section `model` of its training.yaml.
    """

    model: str
    settings: Model


def examine(folder: Path, policy: Policy, run_id: str | None = None) -> Manifest:
    """Check that a downloaded version was signed by the pipeline for this model, and that all its files are as signed.

    Args:
        folder: the version's folder.
        policy: which versions may be opened.
        run_id: the MLflow run that the registry says it is from; None if it does not matter.

    Raises:
        UserError: it was not, or a file is missing, changed, or not listed.
    """
    if not (folder / MANIFEST).is_file() and policy.settings.allow_unsigned:
        log.warning("This version of %s is not signed: model.allow_unsigned in training.yaml allows that", policy.model)
        return unsigned.describe(folder, policy.model, run_id or "", policy.settings)
    manifest = parse_manifest(_read_signed_manifest(folder))
    if manifest.model != policy.model:
        raise UserError(f"it was signed as a version of {manifest.model}, not of {policy.model}")
    if run_id is not None and manifest.run_id != run_id:
        raise UserError(f"it was signed as the model of MLflow run {manifest.run_id}, not of {run_id}")
    check_files(folder, manifest)
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Check that a folder has the files of a manifest, unchanged, and no others.

    Raises:
        UserError: it does not; the message names the first such file.
    """
    present = set(list_files(folder)) - {MANIFEST, SIGNATURE}
    if extra := sorted(present - set(manifest.files)):
        raise UserError(f"{extra[0]} is not listed in its {MANIFEST}")
    for path, entry in manifest.files.items():
        if path not in present:
            raise UserError(f"its file {path} is missing")
        if (folder / path).stat().st_size != entry.size or hash_file(folder / path) != entry.sha256:
            raise UserError(f"its file {path} is not as signed")
    if not any(map(is_of_estimator, present)) or not any(path.startswith(f"{CODE}/") for path in present):
        raise UserError(f"it has no estimator or no {CODE}/")


def _read_signed_manifest(folder: Path) -> bytes:
    """Return the content of the manifest, once its signature is verified."""
    path, signature = folder / MANIFEST, folder / SIGNATURE
    if not (path.is_file() and signature.is_file()) or path.is_symlink() or signature.is_symlink():
        raise UserError(
            "it is not signed: it was made by something else than this pipeline, or before versions were signed; then "
            "set model.allow_unsigned: true in training.yaml, train a new one with scripts/ct run -P FORCE=true, and "
            "remove the setting"
        )
    if path.stat().st_size > MAX_BYTES or signature.stat().st_size > MAX_BYTES:
        raise UserError(f"its {MANIFEST} is larger than {MAX_BYTES >> 20} MB")
    content = path.read_bytes()
    if not signing.verify(content, signature.read_text(encoding="ascii", errors="replace")):
        raise UserError(f"its signature is of none of the accepted keys: see {signing.PUBLIC_KEYS}")
    return content
