"""Green results of Lint and Test, so that a run does not repeat them for the same code.

A result is stored under `.ct/results/` after a green run only, with a hash of everything that it depends on: the
content of the code, the tests, the settings and the lock, and the Python. A check that has not become green since it
last started leaves a file `<name>.pending`, for a stage that otherwise runs only when files change.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from continuous_training.documents import Value, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FOLDER = Path(".ct/results")
IGNORED = {"__pycache__", ".git", ".ipynb_checkpoints", ".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


class Result(Value):
    """A green result: the hash of its inputs, the run, and the counts of its tests."""

    inputs: str
    build_tag: str
    build_number: str
    passed: int = 0
    skipped: int = 0

    @property
    def run(self) -> str:
        """The run's name in messages, such as `run 12 (ct-12)`."""
        return f"run {self.build_number} ({self.build_tag})" if self.build_number else f"run {self.build_tag}"


def is_enabled() -> bool:
    """Tell whether results count: in a run of the pipeline, without pytest options that could leave out a test."""
    return bool(os.environ.get("BUILD_TAG")) and not os.environ.get("PYTEST_ADDOPTS")


def find(name: str, inputs: str) -> Result | None:
    """Return the green result of a check for the same inputs, unless FORCE is set; an unreadable one does not count."""
    if not is_enabled() or os.environ.get("FORCE", "").lower() == "true":
        return None
    try:
        result = Result.model_validate_json(_path(name).read_bytes())
    except (OSError, ValidationError):
        return None
    return result if result.inputs == inputs else None


def start(name: str) -> None:
    """Mark a check as pending until `store` is called."""
    if is_enabled():
        FOLDER.mkdir(parents=True, exist_ok=True)
        _pending(name).touch()


def store(name: str, inputs: str, *, passed: int = 0, skipped: int = 0) -> None:
    """Store a green result; it replaces the check's result for other inputs."""
    if is_enabled():
        run = {"build_tag": os.environ["BUILD_TAG"], "build_number": os.environ.get("BUILD_NUMBER", "")}
        result = Result(inputs=inputs, passed=passed, skipped=skipped, **run)
        write_atomically(_path(name), result.model_dump_json(indent=2) + "\n")
        _pending(name).unlink(missing_ok=True)


def hash_inputs(paths: Iterable[str]) -> str:
    """Hash the names and contents of all files at and below these paths, and the version of Python."""
    digest = hashlib.sha256(sys.version.encode())
    for file in sorted({file for path in paths for file in _files(Path(path))}):
        content = file.read_bytes()
        digest.update(f"\0{file.as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name not in IGNORED]
        yield from (Path(folder, name) for name in names if Path(folder, name).is_file())


def _path(name: str) -> Path:
    return FOLDER / f"{name}.json"


def _pending(name: str) -> Path:
    return FOLDER / f"{name}.pending"
