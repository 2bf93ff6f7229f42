"""The environment that tests run in, lent to clones of the project: to make another takes minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import ROOT

LOCK = "requirements.lock"


def lend(clone: Path) -> None:
    """Lend it to a clone, marked as set up there; if it wants other packages, its first command installs them.

    A clone's own source must go before the installed one: set PYTHONPATH to its src.
    """
    wanted = clone / LOCK
    if not wanted.exists() or wanted.read_bytes() != (ROOT / LOCK).read_bytes():
        return
    lent = clone / ".venv"
    lent.mkdir()
    for part in (path for path in Path(sys.prefix).iterdir() if path.name != ".set-up"):
        (lent / part.name).symlink_to(part)
    summed = subprocess.run(["cksum"], input=wanted.read_bytes(), capture_output=True, check=True)
    (lent / ".set-up").write_text(f"{clone}\n{summed.stdout.decode()}")
