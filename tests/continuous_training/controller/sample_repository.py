"""A little repository with the project's own Jenkinsfiles, whose commands only say what the real ones would decide."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = f"""#!/bin/sh
# What was learnt and who is champion is kept in .ct/, as the real commands keep it.
set -eu
AS_OF=${{AS_OF:-2013-04-01}}
mkdir -p build .ct
champion=$(cat .ct/champion 2>/dev/null || echo null)
case $1 in
    run) shift; exec {sys.executable} {ROOT}/scripts/run.py "$@" ;;
    setup) rm -rf build ;;
    plan)
        if grep -qsxF "$MODEL $AS_OF" .ct/learnt; then decision=nothing; else decision=train; fi
        echo "{{\\"decision\\": \\"$decision\\"}}" >build/plan.json
        ;;
    train) echo "$MODEL $AS_OF" >>.ct/learnt ;;
    compare)
        if [ "$champion" = null ]; then decision=promote; else decision=reject; fi
        echo "{{\\"decision\\": \\"$decision\\", \\"champion\\": $champion}}" >build/verdict.json
        ;;
    register) echo '{{}}' >build/registration.json ;;
    deploy) echo '"1"' >.ct/champion ;;
    report) echo 'Done: what became of it' | tee build/outcome.txt >build/report.html ;;
esac
"""


def create(folder: Path) -> Path:
    """Make the repository, with one commit."""
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
    commit(folder, "the first")
    return folder


def commit(folder: Path, message: str) -> str:
    """Commit all there is, or nothing new; return the commit."""
    git(folder, "add", "--all")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    git(folder, *who, "commit", "--quiet", "--allow-empty", "--message", message)
    return head(folder)


def head(folder: Path) -> str:
    """Return the last commit of the branch."""
    return git(folder, "rev-parse", "main")


def git(folder: Path, *arguments: str) -> str:
    """Run git in a repository and return what it prints."""
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()
