"""The name of a new model: that of a Python package which hides no other module."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
import unicodedata
from pathlib import Path

from continuous_training.errors import UsageError
from continuous_training.model_packages import SOURCES, list_models

PATTERN = re.compile(r"[a-z][a-z0-9_]*")
# Folders that are on the path of Python while a script or a test runs, before src/
FOLDERS = (
    Path("scripts"),
    Path("tests/continuous_training"),
    Path("tests/continuous_training/jenkins"),
    Path("tests/jenkinsfile"),
)


def check_name(name: str) -> None:
    """Check that a package of this name can be made.

    Raises:
        UsageError: the name is no identifier in lower case, or is that of another module or package.
    """
    if not PATTERN.fullmatch(name) or keyword.iskeyword(name):
        raise UsageError(
            f"'{name}' cannot be the name of a model: use lower-case letters, digits and _, such as {_propose(name)}"
        )
    for folder in (SOURCES / name, Path("tests") / name):
        if folder.exists():
            removal = f", or remove it with scripts/ct remove {name}" if name in list_models() else ""
            raise UsageError(f"{folder} exists already: choose another name{removal}")
    another = f"choose another name, such as {_propose(name)}"
    if name in sys.stdlib_module_names:
        raise UsageError(f"'{name}' is a module of Python: {another}")
    if name in {folder.parts[0] for folder in (SOURCES, *FOLDERS)}:
        raise UsageError(f"'{name}' is a folder of the repository: {another}")
    for folder in FOLDERS:
        if (folder / f"{name}.py").exists():
            raise UsageError(f"'{name}' is the name of {folder / name}.py: {another}")
    if importlib.util.find_spec(name) is not None:
        raise UsageError(f"'{name}' is an installed Python module: {another}")


def _propose(name: str) -> str:
    """Return a valid name that resembles this one."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", ascii_name)).lower()
    other = words.lstrip("_0123456789").rstrip("_")
    if not PATTERN.fullmatch(other):
        return "my_model"
    return other if other != name and not keyword.iskeyword(other) else f"{other}_model"
