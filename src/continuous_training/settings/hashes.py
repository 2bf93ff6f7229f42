"""Hashes of the code and the rules that a model depends on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training import extras
from continuous_training.model_packages import SOURCES

if TYPE_CHECKING:
    from continuous_training.settings.comparison import Compare

LOCK, TESTS = Path("requirements.lock"), Path("tests")


def source_hash(model: str) -> str:
    """Hash the model package's code: every Python file below src/<model>, by name and content."""
    return package_hash(SOURCES, model)


def terms_hash(model: str, limits: Compare, champion: str | None) -> str:
    """Hash what a candidate is compared by: the limits, the behaviour tests, and the champion's version."""
    terms = (limits.model_dump_json(), package_hash(TESTS, model), champion)
    return hashlib.sha256(repr(terms).encode()).hexdigest()


def lock_hash(model: str) -> str:
    """Hash the locks of a model's packages: requirements.lock, and those of the extras that its package imports."""
    digest = hashlib.sha256()
    for lock in (LOCK, *extras.locks_of(SOURCES / model)):
        digest.update(lock.read_bytes())
    return digest.hexdigest()


def package_hash(folder: Path, model: str) -> str:
    """Hash the Python files of a package in a folder, by name and content."""
    digest = hashlib.sha256()
    for path in sorted((folder / model).rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
