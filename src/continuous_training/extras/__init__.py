"""The extras of pyproject.toml that models import: LightGBM, PyTorch and others, each with a lock in this folder.

Nobody installs what no model needs. `install.sh` installs the extras that a model's files import: on a laptop, on an
agent, on an EC2 instance, and in the image of a server. `locking.py` makes the locks.
"""

from __future__ import annotations

import ast
import importlib
import logging
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
BUILDS = ("torch",)  # has one build for processors, and one for each version of CUDA
GPU_PREFIXES = ("cuda-", "nvidia-", "triton")  # of the names of the packages that only a build for GPUs needs


def list_extras(folder: Path = FOLDER) -> list[str]:
    """Return the names of all extras that have a lock in a folder."""
    return sorted(path.stem for path in folder.glob("*.lock"))


def extras_of(package: Path) -> list[str]:
    """Return the extras that a package's files import, sorted."""
    return sorted(imported_modules(package) & {*list_extras()})


def locks_of(package: Path) -> list[Path]:
    """Return the locks of the extras that a package's files import."""
    return [FOLDER / f"{name}.lock" for name in extras_of(package)]


def install(*names: str) -> None:
    """Install extras in this environment, unless their locks are installed.

    Raises:
        UserError: a package cannot be installed.
    """
    command = ["sh", str(FOLDER / "install.sh"), sys.prefix, *names]
    lines = []
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr or ():
            lines.append(line.strip().removeprefix("ct: "))
            if not lines[-1].startswith("error: "):
                log.info("%s", lines[-1])
    if process.returncode:
        raise UserError(lines[-1].removeprefix("error: "))
    importlib.invalidate_caches()


def imported_modules(package: Path) -> set[str]:
    """Return the top-level names of the modules that a package's files import, anywhere in them."""
    modules: set[str] = set()
    for path in package.rglob("*.py"):
        with suppress(SyntaxError, ValueError):  # a file that cannot be imported imports nothing
            modules.update(_imports(path.read_bytes()))
    return modules


def describe_missing(error: ImportError, extra: str = "") -> str:
    """Return a message about a module that cannot be imported, with the command that installs it, if that is known.

    Args:
        error: what the import has raised.
        extra: the extra that has it; default: the one with the library's name, if there is one.
    """
    library = (error.name or "").partition(".")[0]
    if not extra and library in list_extras():
        extra = library
    return f"{error.name} is not installed: pip install '.[{extra}]'" if library and extra else str(error)


def is_for_gpu(package: str) -> bool:
    """Return whether only a build for GPUs needs a package."""
    return package.startswith(GPU_PREFIXES)


def _imports(source: bytes) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
