"""The source code that a build runs, as git identifies it: its commit, its content, and what changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GIT_TIMEOUT = 60  # seconds
ADD_OPTIONS = ("-c", "core.looseCompression=0", "-c", "core.safecrlf=false")  # fast, and no error about line ends
STATE_FOLDER = ".ct"  # of this tool, in the workspace


@dataclass(frozen=True)
class SourceCode:
    """The code in a workspace. Both values are None outside a git repository.

    `tree` is the git tree that a commit of all tracked and all untracked files that are not ignored would have. Equal
    trees mean equal content, whether it is committed or not.
    """

    commit: str | None = None
    tree: str | None = None


def read_source_code(workspace: Path) -> SourceCode:
    """Identify the code in a workspace. Neither the repository nor its index is changed."""
    folders = _git(workspace, "rev-parse", "--absolute-git-dir", "--path-format=absolute", "--git-path", "objects")
    if folders is None:
        return SourceCode()
    commit = _git(workspace, "rev-parse", "--verify", "--quiet", "HEAD")
    return SourceCode(commit and commit.strip(), _tree(workspace, *folders.splitlines()))


def find_changed_files(workspace: Path, commit: str | None) -> list[str]:
    """List the paths below the workspace that differ from the commit of the previous build.

    A local build runs the work tree, so changes that are not committed count, and so do new files. A first build has
    no changes, as on Jenkins, because there is no previous commit; nor has a workspace outside a repository. If the
    commit no longer exists, the changes are those against HEAD.
    """
    if not commit:
        return []
    tracked_files = _git(workspace, "diff", "--name-only", "--no-renames", "--relative", "-z", commit)
    if tracked_files is None:
        tracked_files = _git(workspace, "diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD")
    untracked_files = _git(workspace, "ls-files", "--others", "--exclude-standard", "-z")
    return sorted({*_paths(tracked_files), *_paths(untracked_files)})


def _tree(workspace: Path, git_folder: str, objects: str) -> str | None:
    """Write the work tree to a temporary index and object folder, and return the id of its tree.

    A copy of the index makes git read only the files that changed since the index was written. The copy has the index's
    modification time: git compares it with that of files to find those that changed right afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="jenkinsfile-") as folder:
        index = Path(folder, "index")
        original_index = Path(git_folder, "index")
        if original_index.is_file():
            shutil.copy2(original_index, index)
        Path(folder, "objects").mkdir()
        variables = {
            "GIT_INDEX_FILE": str(index),
            "GIT_OBJECT_DIRECTORY": str(Path(folder, "objects")),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
        }
        paths = [":/"]
        if _git(workspace, "check-ignore", "--quiet", f"{STATE_FOLDER}/") is None:  # git rejects an ignored folder here
            paths.append(f":(exclude){STATE_FOLDER}")
        if _git(workspace, *ADD_OPTIONS, "add", "--all", "--", *paths, variables=variables) is None:
            return None
        tree = _git(workspace, "write-tree", variables=variables)
        return tree and tree.strip()


def _paths(output: str | None) -> Iterator[str]:
    return filter(None, (output or "").split("\0"))


def _git(workspace: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> str | None:
    """Run git and return its output; None if it fails or is not installed."""
    try:
        process = subprocess.run(
            ["git", *arguments],
            cwd=workspace,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=True,
            timeout=GIT_TIMEOUT,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout
