"""The .venv of the tests for clones of the project, because creating another takes minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import ROOT

LOCK = "requirements.lock"


def link_venv(clone: Path) -> None:
    """Link it into a clone as already set up; with another lock, the clone's first command creates its own.

    Set PYTHONPATH to the clone's src, which must precede the installed source.
    """
    lock = clone / LOCK
    if not lock.exists() or lock.read_bytes() != (ROOT / LOCK).read_bytes():
        return
    venv = clone / ".venv"
    venv.mkdir()
    for part in (path for path in Path(sys.prefix).iterdir() if path.name != ".set-up"):
        (venv / part.name).symlink_to(part)
    checksum = subprocess.run(["cksum"], input=lock.read_bytes(), capture_output=True, check=True)
    (venv / ".set-up").write_text(f"{clone}\n{checksum.stdout.decode()}")
