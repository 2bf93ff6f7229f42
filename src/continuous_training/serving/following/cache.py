"""The versions on a server's own disk: each is there whole or not at all, and one of them served last.

.ct/serving/<registry's model>/<number>/model/   what MLflow loads
.ct/serving/<registry's model>/<number>/golden.json
.ct/serving/<model>-<tracking server>.json       which one served last, for a start without the registry
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from continuous_training.documents import write_atomically
from continuous_training.registry import connection
from continuous_training.serving.following.assignment import Copy
from continuous_training.settings import STATE
from continuous_training.versions import golden_predictions

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = 3  # versions


class Cache:
    """What this server has downloaded of one registered model."""

    def __init__(self, model: str, folder: Path = STATE / "serving") -> None:
        self._folder = folder
        server = hashlib.sha256(connection.tracking_uri().encode()).hexdigest()[:12]
        self._last = folder / f"{model}-{server}.json"

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until no other server of this folder is at this; a server that dies gives its turn back."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".turn").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def place(self, copy: Copy) -> Path:
        """Return where a copy is, or will be."""
        return self._folder / copy.identity / copy.number

    def fetch(self, copy: Copy) -> None:
        """Download a version and its golden rows, if they are not here yet."""
        place = self.place(copy)
        if place.exists():
            return
        import mlflow.artifacts

        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=place.parent, ignore_cleanup_errors=True) as unfinished:
            made = Path(unfinished, "whole")
            made.mkdir()
            mlflow.artifacts.download_artifacts(artifact_uri=copy.uri, dst_path=str(made / "model"))
            rows, answers = golden_predictions.read_golden_predictions(copy.run_id)
            (made / golden_predictions.FILE).write_text(json.dumps([rows, answers]), encoding="utf-8")
            _keep(made, place)

    def golden(self, copy: Copy) -> tuple[dict[str, Any], list[Any]]:
        """Return the golden rows of a version that was fetched, and their answers."""
        rows, answers = json.loads((self.place(copy) / golden_predictions.FILE).read_text(encoding="utf-8"))
        return rows, answers

    def forget(self, copy: Copy) -> None:
        """Remove a copy that is of no use, so that it is downloaded anew."""
        shutil.rmtree(self.place(copy), ignore_errors=True)

    def remember(self, copy: Copy) -> None:
        """Write down that a version serves, and remove all but the newest few."""
        write_atomically(self._last, copy.model_dump_json(indent=2) + "\n")
        if (place := self.place(copy)).exists():
            place.touch()
        for old in sorted(_versions(place.parent), key=_changed)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def last(self) -> Copy | None:
        """Return the version that served last, if its copy is still here."""
        try:
            copy = Copy.model_validate_json(self._last.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return copy if self.place(copy).exists() else None


def _keep(made: Path, place: Path) -> None:
    """Move a download to its place; another server of this machine may have been quicker with the same."""
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _versions(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if not path.name.startswith(".")]


def _changed(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another worker was quicker
        return 0.0
