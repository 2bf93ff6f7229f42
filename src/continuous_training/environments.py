"""Separate environments for packages that conflict with this project's: each is created once, from a lock."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from continuous_training.errors import UserError
from continuous_training.settings import STATE

if TYPE_CHECKING:
    from collections.abc import Iterator
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


def _create(folder: Path, lock: Path, log_file: Path) -> None:
    """Create an environment in place of whatever is in the folder; the log file has the output of uv."""
    try:
        from uv import find_uv_bin
    except ImportError:
        raise UserError("uv is not installed, which creates environments: pip install '.[ingest]'") from None
    log.info("Setting up the environment of %s, once (log: %s)", lock, log_file)
    shutil.rmtree(folder, ignore_errors=True)
    uv, interpreter = find_uv_bin(), str(folder / "bin" / "python")
    steps = (
        ["venv", "--no-project", "--python", sys.executable, str(folder)],
        ["pip", "sync", "--require-hashes", "--python", interpreter, str(lock)],
    )
    with log_file.open("w", encoding="utf-8") as output:
        for step in steps:
            process = subprocess.run([uv, *step], stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
            if process.returncode:
                raise UserError(f"the environment of {lock} cannot be created: see {log_file}")


@contextmanager
def _wait_for_lock(path: Path) -> Iterator[None]:
    """Hold a lock file; the operating system releases it when the process ends, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
