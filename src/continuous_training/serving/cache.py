"""The versions on a server's own disk: each is there whole or not at all, and one of them served last.

.ct/serving/<registry's model>/<number>/model/   what MLflow loads
.ct/serving/<registry's model>/<number>/golden.json
.ct/serving/<model>-<tracking server>.json       which one served last, for a start without the registry
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from continuous_training import golden, registry
from continuous_training.documents import Value, write_atomically
from continuous_training.registry import Version
from continuous_training.settings import STATE

KEPT = 3  # versions


class Good(Value):
    """A version that has served: of which registry's model (registry.identity), which number, from which MLflow run."""

    identity: str
    name: str
    number: str
    run_id: str
    tags: dict[str, str] = Field(default_factory=dict)

    @property
    def version(self) -> Version:
        """The version itself."""
        return Version(self.name, self.number, self.run_id, self.tags)


class Cache:
    """What this server has downloaded of one registered model."""

    def __init__(self, model: str, folder: Path = STATE / "serving") -> None:
        self._folder = folder
        server = hashlib.sha256(registry.tracking_uri().encode()).hexdigest()[:12]
        self._good = folder / f"{model}-{server}.json"

    def fetch(self, identity: str, version: Version) -> Path:
        """Return the folder of a version's model; download it, and its golden rows, if it is not here yet."""
        import mlflow.artifacts

        place = self._folder / identity / version.number
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".", dir=place.parent, ignore_cleanup_errors=True) as unfinished:
                made = Path(unfinished, "whole")
                made.mkdir()
                mlflow.artifacts.download_artifacts(artifact_uri=version.uri, dst_path=str(made / "model"))
                rows, answers = golden.kept(version.run_id)
                (made / golden.FILE).write_text(json.dumps([rows, answers]), encoding="utf-8")
                _keep(made, place)
        return place / "model"

    def golden(self, identity: str, version: Version) -> tuple[dict[str, Any], list[Any]]:
        """Return the golden rows of a version that was fetched, and their answers."""
        rows, answers = json.loads((self._folder / identity / version.number / golden.FILE).read_text("utf-8"))
        return rows, answers

    def forget(self, identity: str, version: Version) -> None:
        """Remove a version that is of no use, so that it is downloaded anew when it is asked for again."""
        shutil.rmtree(self._folder / identity / version.number, ignore_errors=True)

    def remember(self, identity: str, version: Version) -> None:
        """Write down that a version serves, and remove all but the newest few."""
        good = Good(identity=identity, **asdict(version))
        write_atomically(self._good, good.model_dump_json(indent=2) + "\n")
        if (kept := self._folder / identity / version.number).exists():
            kept.touch()
        for old in sorted(_versions(self._folder / identity), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def last(self) -> Good | None:
        """Return the version that served last, if it is still here."""
        try:
            good = Good.model_validate_json(self._good.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return good if (self._folder / good.identity / good.number).exists() else None


def _keep(made: Path, place: Path) -> None:
    """Move a download to its place; another server of this machine may have been quicker with the same."""
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _versions(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if not path.name.startswith(".")]
