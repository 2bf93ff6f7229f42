"""Packages that conflict with this project's: an environment for a lock, or a folder for some packages."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from uv import find_uv_bin

from continuous_training.errors import UserError
from continuous_training.settings import STATE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

FOLDER, LOCK = STATE / "environments", "requirements.lock"


def ensure_python(lock: Path, parent: Path = FOLDER) -> Path:
    """Return the Python of a lock's environment; create the environment first if it is missing or out of date.

    The environment has the name of the lock's folder. Other processes that need it meanwhile wait.

    Args:
        lock: the requirements.lock that lists the environment's packages.
        parent: the folder of all environments.

    Raises:
        UserError: there is no such lock, or its packages cannot be installed.
    """
    if not lock.exists():
        raise UserError(f"there is no {lock}, which lists the packages of that environment")
    folder = parent.absolute() / lock.parent.name
    fingerprint = f"{folder}\n{sys.version}\n{hashlib.sha256(lock.read_bytes()).hexdigest()}\n"
    mark = folder / ".set-up"  # written last
    with _wait_for_lock(folder.with_suffix(".lock")):
        if not mark.exists() or mark.read_text() != fingerprint:
            _create(folder, lock, folder.with_suffix(".log"))
            mark.write_text(fingerprint)
    return folder / "bin" / "python"


def ensure_packages(requirements: Sequence[str], parent: Path = FOLDER) -> Path:
    """Return a folder with packages; install them first if it is missing. Dependencies are not installed.

    Args:
        requirements: the packages, each as `name==version`.
        parent: the folder of all environments.

    Raises:
        UserError: they cannot be installed.
    """
    name = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:16]
    folder = parent.absolute() / f"packages-{name}"
    with _wait_for_lock(folder.with_suffix(".lock")):
        if not folder.exists():
            log.info("Installing %s in %s, once", ", ".join(requirements), folder)
            temporary = folder.with_suffix(".new")
            shutil.rmtree(temporary, ignore_errors=True)
            # Without a build for GPUs on a machine that has none; this concerns PyTorch only
            backend = f"--torch-backend={os.environ.get('UV_TORCH_BACKEND', 'auto')}"
            step = ["pip", "install", "--no-deps", backend, "--python", sys.executable, "--target", str(temporary)]
            problem = f"{', '.join(requirements)} cannot be installed"
            _run_uv([[*step, *requirements]], problem, folder.with_suffix(".log"))
            temporary.rename(folder)
    return folder


def _create(folder: Path, lock: Path, log_file: Path) -> None:
    """Create an environment in place of whatever is in the folder; the log file has the output of uv."""
    log.info("Setting up the environment of %s, once (log: %s)", lock, log_file)
    shutil.rmtree(folder, ignore_errors=True)
    interpreter = str(folder / "bin" / "python")
    steps = [
        ["venv", "--no-project", "--python", sys.executable, str(folder)],
        ["pip", "sync", "--require-hashes", "--python", interpreter, str(lock)],
    ]
    _run_uv(steps, f"the environment of {lock} cannot be created", log_file)


def _run_uv(steps: Sequence[Sequence[str]], problem: str, log_file: Path) -> None:
    with log_file.open("w", encoding="utf-8") as output:
        for step in steps:
            command = [find_uv_bin(), *step]
            process = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
            if process.returncode:
                raise UserError(f"{problem}: see {log_file}")


@contextmanager
def _wait_for_lock(path: Path) -> Iterator[None]:
    """Hold a lock file; the operating system releases it when the process ends, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
