"""The files that changed since the previous build, for `when { changeset … }`."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = "HEAD"


def changed_files(workspace: Path, commit: str | None) -> list[str]:
    """List the paths below the workspace that differ from the commit that the previous build ran.

    A local build runs the work tree, so changes that are not committed count, and new files too. A first build has no
    changes, as on Jenkins, which has no previous commit to compare with; nor has a workspace without git. Where git
    no longer has the commit, the changes are those against HEAD.
    """
    if not commit:
        return []
    tracked = _git(workspace, "diff", "--name-only", "--no-renames", "--relative", "-z", commit)
    if tracked is None:
        tracked = _git(workspace, "diff", "--name-only", "--no-renames", "--relative", "-z", HEAD)
    untracked = _git(workspace, "ls-files", "--others", "--exclude-standard", "-z")
    return sorted({*_paths(tracked), *_paths(untracked)})


def _paths(output: str | None) -> Iterator[str]:
    return filter(None, (output or "").split("\0"))


def _git(workspace: Path, *arguments: str) -> str | None:
    try:
        process = subprocess.run(
            ["git", *arguments], cwd=workspace, capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout
