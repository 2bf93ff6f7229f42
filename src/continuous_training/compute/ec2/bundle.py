"""The code that an instance runs: exactly one commit, and no work tree that differs from it."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def packed(commit: str) -> Iterator[Path]:
    """Pack the commit of a run into a tar file that is there as long as the context.

    Raises:
        UserError: the work tree, which was tested, is at another commit or differs from it.
    """
    if (head := _git("rev-parse", "HEAD").strip()) != commit:
        raise UserError(f"COMPUTE=ec2 trains the run's commit {commit or '(none)'}, and the work tree is at {head}")
    changed = _git("status", "--porcelain", "--untracked-files=normal").splitlines()
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(f"COMPUTE=ec2 trains a commit, and {changed[0][3:]}{more} is in none: commit what was tested")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "code.tar.gz")
        _git("archive", "--format=tar.gz", f"--output={path}", commit)
        yield path


def _git(*arguments: str) -> str:
    try:
        asked = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        message = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise UserError(
            f"git {arguments[0]} failed, and COMPUTE=ec2 trains a commit: {message[0] if message else error}"
        ) from error
    return asked.stdout
