"""The packages of a version: those that its code and its estimator use, and their dependencies.

A version predicts with the versions of them that were installed when it was made. Where others are installed, these are
installed in a folder of their own, once, which comes first on the path of the version's process. PyTorch's build is no
part of its version here: what was trained on a GPU predicts on a machine without one.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement

from continuous_training import environments, extras
from continuous_training.errors import UserError
from continuous_training.versions.file_names import REQUIREMENTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

OWN_PACKAGE, ADDED_BY_MLFLOW = "continuous-training", "mlflow"
# What the process of a version uses to open it and to predict: the modules, and the names of their packages
FRAMEWORK = {name: name for name in ("numpy", "pandas", "pyarrow", "scipy", "skops")} | {"sklearn": "scikit-learn"}
PYTHON_ENVIRONMENT = "python_env.yaml"  # a file of MLflow's
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


def list_packages(package: Path, trusted_types: Collection[str]) -> dict[str, str]:
    """Return the names and installed versions of the packages that a model needs.

    Args:
        package: the folder of the model's package.
        trusted_types: classes outside its package that its estimator may contain.
    """
    modules = {name.partition(".")[0] for name in trusted_types} | extras.imported_modules(package)
    others = modules - sys.stdlib_module_names - FRAMEWORK.keys() - {package.name}
    # Only then: it reads the files of all packages
    distributions = metadata.packages_distributions() if others else {}
    names = {_normalize(name) for module in others for name in distributions.get(module, ())}
    required = _with_dependencies(names | set(FRAMEWORK.values()))
    return {name: _public(version) for name, version in installed_packages().items() if name in required}


def installed_packages() -> dict[str, str]:
    """Return the names and versions of all installed packages but this project, by name."""
    installed: dict[str, str] = {}
    for distribution in metadata.distributions():
        name, version = _read_fields(distribution, "Name", "Version")
        if name and version:
            installed.setdefault(_normalize(name), version)  # the first one on the path is imported
    return {name: version for name, version in sorted(installed.items()) if name != OWN_PACKAGE}


def to_requirements(packages: Mapping[str, str]) -> list[str]:
    """Return packages as pip's requirements."""
    return [f"{name}=={version}" for name, version in packages.items()]


def read_packages(folder: Path) -> dict[str, str]:
    """Return the packages that a version needs, by the requirements that were stored with it."""
    lines = (folder / REQUIREMENTS).read_text(encoding="utf-8").splitlines()
    packages = {
        _normalize(name): version.strip() for name, equals, version in (x.partition("==") for x in lines) if equals
    }
    packages.pop(ADDED_BY_MLFLOW, None)
    return packages


def read_python_version(folder: Path) -> str:
    """Return the version of Python with which a version was made, such as 3.11, as MLflow recorded it; empty if not."""
    try:
        text = (folder / PYTHON_ENVIRONMENT).read_text(encoding="utf-8")
    except OSError:
        return ""
    match = re.search(r"^python: *['\"]?([0-9]+\.[0-9]+)", text, re.MULTILINE)
    return match[1] if match else ""


def search_path(packages: Mapping[str, str], python: str) -> str | None:
    """Return the folder that must come first on the path of a version's process; None if it needs none.

    The packages that differ from the installed ones are installed there first, unless they are there already.

    Args:
        packages: the names and versions of the version's packages.
        python: the version of Python that it was made with, such as 3.11; empty if that is unknown.

    Raises:
        UserError: it was made with another version of Python, or packages cannot be installed.
    """
    if python and python != PYTHON:
        raise UserError(f"it was made with Python {python}, and this is {PYTHON}: open it with Python {python}")
    different = sorted(
        f"{name}=={_public(version)}"
        for name, version in packages.items()
        if _installed_version(name) != _public(version)
    )
    return str(environments.ensure_packages(different)) if different else None


def python_path(folder: str | None) -> dict[str, str]:
    """Return the variable that puts the folder of `search_path` first on Python's path."""
    if folder is None:
        return {}
    return {"PYTHONPATH": os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])}


def _with_dependencies(names: Iterable[str]) -> set[str]:
    """Return packages, and all that they depend on here."""
    queue, result = [*names], set()
    while queue:
        name = queue.pop()
        if name not in result:
            result.add(name)
            queue += _dependencies(name)
    return result


@cache
def _dependencies(name: str) -> list[str]:
    try:
        texts = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []
    names = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            names.append(_normalize(requirement.name))
    return [name for name in names if not extras.is_for_gpu(name)]


def _installed_version(name: str) -> str | None:
    try:
        (version,) = _read_fields(metadata.distribution(name), "Version")
    except metadata.PackageNotFoundError:
        return None
    return _public(version) if version else None


def _read_fields(distribution: metadata.Distribution, *names: str) -> Iterator[str | None]:
    """Yield fields of a package's metadata. `distribution.metadata` parses all of it: a second for all packages."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    for name in names:
        match = re.search(rf"^{name}: *(.+)$", text, re.MULTILINE)
        yield match[1].strip() if match else None


def _public(version: str) -> str:
    """Return a version without the name of its build: 2.13.0 for 2.13.0+cpu."""
    return version.partition("+")[0]


def _normalize(name: str) -> str:
    """Return the name of a package as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
