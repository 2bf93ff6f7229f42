"""Environments of their own, for packages that cannot live beside this project's: each is made once, from a lock."""

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


def python(lock: Path, made_in: Path = FOLDER) -> Path:
    """Return the Python of a lock's environment, made first if it is not there as the lock has it.

    Its name is that of the lock's folder. Others who want it meanwhile wait.

    Raises:
        UserError: there is no such lock, or the packages cannot be had.
    """
    if not lock.exists():
        raise UserError(f"there is no {lock}, which says what is in that environment")
    folder = made_in.absolute() / lock.parent.name
    made_from = f"{folder}\n{sys.version}\n{hashlib.sha256(lock.read_bytes()).hexdigest()}\n"
    mark = folder / ".set-up"  # written last
    with _alone(folder.with_suffix(".turn")):
        if not mark.exists() or mark.read_text() != made_from:
            _make(folder, lock, folder.with_suffix(".log"))
            mark.write_text(made_from)
    return folder / "bin" / "python"


def _make(folder: Path, lock: Path, message: Path) -> None:
    """Make it anew, and write down how."""
    try:
        from uv import find_uv_bin
    except ImportError:
        raise UserError("uv is not installed, which makes environments: pip install '.[ingest]'") from None
    log.info("Setting up the environment of %s, once (log: %s)", lock, message)
    shutil.rmtree(folder, ignore_errors=True)
    uv, interpreter = find_uv_bin(), str(folder / "bin" / "python")
    steps = (
        ["venv", "--no-project", "--python", sys.executable, str(folder)],
        ["pip", "sync", "--require-hashes", "--python", interpreter, str(lock)],
    )
    with message.open("w", encoding="utf-8") as output:
        for step in steps:
            done = subprocess.run([uv, *step], stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
            if done.returncode:
                raise UserError(f"the environment of {lock} cannot be made: see {message}")


@contextmanager
def _alone(turn: Path) -> Iterator[None]:
    """Wait for whoever makes the same one; a turn ends with its process, however that ends."""
    turn.parent.mkdir(parents=True, exist_ok=True)
    with turn.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
