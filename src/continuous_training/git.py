"""The commit of the work tree."""

from __future__ import annotations

import os
import subprocess

TIMEOUT_SECONDS = 10


def current_commit() -> str:
    """Return GIT_COMMIT, which Jenkins sets, or the commit of the work tree; an empty string outside a repository."""
    if commit := os.environ.get("GIT_COMMIT"):
        return commit
    completed = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
    )
    return completed.stdout.strip()
