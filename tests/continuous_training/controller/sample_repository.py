"""A small git repository with the project's Jenkinsfiles, whose commands write decisions and compute nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from conftest import ROOT, TIMEOUT

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = f"""#!/bin/sh
# The trained dates and the champion are stored in .ct/, as the real commands do.
set -eu
AS_OF=${{AS_OF:-2013-04-01}}
mkdir -p build .ct
champion=$(cat .ct/champion 2>/dev/null || echo null)
case $1 in
    run) shift; exec {sys.executable} {ROOT}/scripts/run.py "$@" ;;
    setup) rm -rf build ;;
    plan)
        if grep -qsxF "$MODEL $AS_OF" .ct/trained; then decision=nothing; else decision=train; fi
        echo "{{\\"decision\\": \\"$decision\\"}}" >build/plan.json
        ;;
    train) echo "$MODEL $AS_OF" >>.ct/trained ;;
    compare)
        if [ "$champion" = null ]; then decision=promote; else decision=reject; fi
        echo "{{\\"decision\\": \\"$decision\\", \\"champion\\": $champion}}" >build/verdict.json
        ;;
    register) echo '{{"decision": "promote"}}' >build/registration.json ;;
    deploy) echo '"1"' >.ct/champion ;;
    report) echo 'Done: a headline' | tee build/outcome.txt >build/report.html ;;
esac
"""


def create(folder: Path) -> Path:
    """Create the repository with one commit."""
    (folder / "scripts").mkdir(parents=True)
    (folder / "jenkins").mkdir()
    shutil.copy(ROOT / "Jenkinsfile", folder)
    for jenkinsfile in (ROOT / "jenkins").glob("*.Jenkinsfile"):
        shutil.copy(jenkinsfile, folder / "jenkins")
    launcher = folder / "scripts/ct"
    launcher.write_text(COMMANDS)
    launcher.chmod(0o755)
    (folder / ".gitignore").write_text(".ct/\nbuild/\n")
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "first commit")
    return folder


def commit(folder: Path, message: str) -> str:
    """Commit all changes, if any; return the commit."""
    git(folder, "add", "--all")
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    git(folder, *author, "commit", "--quiet", "--allow-empty", "--message", message)
    return head(folder)


def head(folder: Path) -> str:
    """Return the last commit of main."""
    return git(folder, "rev-parse", "main")


def git(folder: Path, *arguments: str) -> str:
    """Run git in a repository and return its output."""
    process = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=TIMEOUT
    )
    return process.stdout.strip()
