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
PAST_FAILURES = "past_failures/*.json"  # below a model's tests


def source_hash(model: str) -> str:
    """Hash the model package's code: every Python file below src/<model>, by name and content."""
    return package_hash(SOURCES, model)


def terms_hash(model: str, limits: Compare, champion: str | None) -> str:
    """Hash what a candidate is compared by: the limits, the behaviour tests and past failures, and the champion."""
    behaviour = package_hash(TESTS, model), package_hash(TESTS, model, PAST_FAILURES)
    terms = (limits.model_dump_json(), *behaviour, champion)
    return hashlib.sha256(repr(terms).encode()).hexdigest()


def lock_hash(model: str) -> str:
    """Hash the locks of a model's packages: requirements.lock, and those of the extras that its package imports."""
    digest = hashlib.sha256()
    for lock in (LOCK, *extras.locks_of(SOURCES / model)):
        digest.update(lock.read_bytes())
    return digest.hexdigest()


def package_hash(folder: Path, model: str, pattern: str = "*.py") -> str:
    """Hash the Python files of a package in a folder, by name and content; or its files of another pattern."""
    digest = hashlib.sha256()
    for path in sorted((folder / model).rglob(pattern)):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
