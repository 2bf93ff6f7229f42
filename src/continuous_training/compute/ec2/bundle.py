"""The code that an instance runs: exactly the run's commit. A work tree that differs from it is refused."""

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
def archive_commit(commit: str) -> Iterator[Path]:
    """Yield a tar.gz of a run's commit, which is deleted at the end of the context.

    Raises:
        UserError: the work tree, which was tested, is at another commit or differs from it.
    """
    if (head := _run_git("rev-parse", "HEAD").strip()) != commit:
        raise UserError(f"COMPUTE=ec2 trains the run's commit {commit or '(none)'}, but the work tree is at {head}")
    changes = _run_git("status", "--porcelain", "--untracked-files=normal").splitlines()
    if changes:
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise UserError(f"COMPUTE=ec2 trains a commit, but {changes[0][3:]}{more} is not committed: commit it first")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "code.tar.gz")
        _run_git("archive", "--format=tar.gz", f"--output={path}", commit)
        yield path


def _run_git(*arguments: str) -> str:
    try:
        process = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise UserError(
            f"git {arguments[0]} failed, and COMPUTE=ec2 trains a commit: {lines[0] if lines else error}"
        ) from error
    return process.stdout
