"""Versions on the server's disk: each is complete or absent. One file records which version was served last.

.ct/serving/<registered model>/<number>/     the version's files
.ct/serving/<model>-<tracking server>.json   the version that was served last, for a start without registry
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from pydantic import ValidationError

from continuous_training.documents import write_atomically
from continuous_training.registry import connection
from continuous_training.serving.following.assignment import VersionReference
from continuous_training.settings import STATE
from continuous_training.versions.download import download

MAX_VERSIONS = 3


class VersionCache:
    """The downloads of one registered model. Servers of the same machine share the folder."""

    def __init__(self, model: str, folder: Path = STATE / "serving") -> None:
        self._folder = folder
        server = hashlib.sha256(connection.tracking_uri().encode()).hexdigest()[:12]
        self._last_version = folder / f"{model}-{server}.json"

    def locate(self, version: VersionReference) -> Path:
        """Return the folder of a version, which exists once its download is complete."""
        return self._folder / version.identity / version.number

    def download(self, version: VersionReference) -> None:
        """Download a version, unless it is here already."""
        folder = self.locate(version)
        if folder.exists():
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent, ignore_cleanup_errors=True) as temporary:
            files = Path(temporary, "files")
            files.mkdir()
            download(version.uri, files, version.run_id)
            _move(files, folder)

    def remove(self, version: VersionReference) -> None:
        """Remove a version that cannot be used, so that it is downloaded again."""
        shutil.rmtree(self.locate(version), ignore_errors=True)

    def record_last_version(self, version: VersionReference) -> None:
        """Record the version that is served now, and remove all but the newest few versions."""
        write_atomically(self._last_version, version.model_dump_json(indent=2) + "\n")
        if (folder := self.locate(version)).exists():
            folder.touch()
        versions = [path for path in folder.parent.glob("*") if not path.name.startswith(".")]
        for old in sorted(versions, key=_modification_time)[:-MAX_VERSIONS]:
            shutil.rmtree(old, ignore_errors=True)

    def read_last_version(self) -> VersionReference | None:
        """Return the version that was served last, if it is still here."""
        try:
            version = VersionReference.model_validate_json(self._last_version.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return version if self.locate(version).exists() else None


def _move(download: Path, folder: Path) -> None:
    """Move a complete download to its folder, unless another server of this machine was faster."""
    try:
        download.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _modification_time(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another worker has removed it
        return 0.0
