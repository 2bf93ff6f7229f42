"""The name of a new model: that of a Python package which hides no other module."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
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
        other = re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).lower().strip("_0123456789")
        valid = PATTERN.fullmatch(other) and not keyword.iskeyword(other)
        hint = f", such as {other}" if valid else ""
        raise UsageError(f"'{name}' cannot be the name of a model: use lower-case letters, digits and _{hint}")
    for folder in (SOURCES / name, Path("tests") / name):
        if folder.exists():
            removal = f", or remove it with scripts/ct remove {name}" if name in list_models() else ""
            raise UsageError(f"{folder} exists already: choose another name{removal}")
    if name in sys.stdlib_module_names:
        raise UsageError(f"'{name}' is a module of Python: choose another name")
    for folder in FOLDERS:
        if (folder / f"{name}.py").exists():
            raise UsageError(f"'{name}' is the name of {folder / name}.py: choose another name")
    if importlib.util.find_spec(name) is not None:
        raise UsageError(f"'{name}' is an installed Python module: choose another name")
