"""The download of a version from the registry, with limits: its address is only what the tracking server says."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from continuous_training.errors import UserError
from continuous_training.urls import without_password
from continuous_training.versions import golden_predictions
from continuous_training.versions.file_names import MANIFEST
from continuous_training.versions.manifest import MAX_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow.store.artifact.artifact_repo import ArtifactRepository

MODELS = "models:/"
# Stores that are asked with credentials of their own. An address with http would be sent those of the tracking server.
STORES = {"s3", "gs", "wasbs", "abfss", "mlflow-artifacts"}
LOCAL = {"", "file"}
MAX_BYTES = 16 * 2**30


def download(uri: str, folder: Path, run_id: str | None = None) -> None:
    """Download a version's files.

    Args:
        uri: `models:/<model>/<number>`, `models:/<id>` of a model that is not registered, or the address of its files.
        folder: an empty folder, which is created if it is missing.
        run_id: its MLflow run, which has its golden predictions if it was stored before versions were signed.

    Raises:
        UserError: it is missing, is stored where no version may be, or is too large.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    folder.mkdir(parents=True, exist_ok=True)
    try:
        location = _locate(uri)
        _check_location(location)
        repository = get_artifact_repository(location)
        _check_listing(repository)
        repository.download_artifacts("", str(folder))  # type: ignore[no-untyped-call]
        if not any(folder.iterdir()):  # a store lists nothing where there is nothing
            raise UserError(f"{uri} cannot be downloaded: its files are gone")
        if run_id and not (folder / MANIFEST).exists() and not (folder / golden_predictions.FILE).exists():
            download_artifacts(run_id=run_id, artifact_path=golden_predictions.FILE, dst_path=str(folder))
    except (MlflowException, OSError, ValueError) as error:
        message = str(error).strip().partition("\n")[0]
        raise UserError(f"{uri} cannot be downloaded: {without_password(message)}") from error


def _locate(uri: str) -> str:
    """Return where the tracking server says that a version's files are."""
    from mlflow import MlflowClient

    if not uri.startswith(MODELS):
        return uri
    client, name = MlflowClient(), uri.removeprefix(MODELS)
    model, _, number = name.rpartition("/")
    location = str(client.get_model_version_download_uri(model, number)) if model else uri
    if location.startswith(MODELS):
        return str(client.get_logged_model(location.removeprefix(MODELS)).artifact_location)
    return location


def _check_location(location: str) -> None:
    """Raise a UserError if a version's files must not be read from an address."""
    from mlflow import get_tracking_uri

    address = urlsplit(location)
    is_remote = urlsplit(get_tracking_uri()).scheme in {"http", "https"}
    stores = STORES if is_remote else STORES | LOCAL
    if address.scheme not in stores or (address.scheme == "mlflow-artifacts" and address.netloc):
        raise UserError(f"its files are at {without_password(location)}, and not where the tracking server stores them")


def _check_listing(repository: ArtifactRepository) -> None:
    """Raise a UserError if there are too many files, or too large ones, before any is downloaded."""
    total = 0
    for number, (path, size) in enumerate(_list_entries(repository), start=1):
        parts = PurePosixPath(path).parts
        if ".." in parts or path.startswith("/") or "\\" in path:
            raise UserError(f"its file '{path}' has no plain relative name")
        total += size
        if number > MAX_FILES or total > MAX_BYTES:
            raise UserError(f"it has more than {MAX_FILES:,} files or {MAX_BYTES >> 30} GB")


def _list_entries(repository: ArtifactRepository) -> Iterator[tuple[str, int]]:
    """Yield the path and the size of each file and folder."""
    folders: list[str | None] = [None]
    while folders:
        for entry in repository.list_artifacts(folders.pop()):
            if entry.is_dir:
                folders.append(entry.path)
            yield entry.path, entry.file_size or 0
