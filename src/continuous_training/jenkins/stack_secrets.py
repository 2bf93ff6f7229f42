"""The secrets of the stack in jenkins/compose.yaml: random, in jenkins/.env, which Compose finds beside it.

jenkins/environment.txt lists what the Jenkins controller needs; what the other services need is listed here.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from continuous_training.errors import UsageError, UserError
from continuous_training.jenkins import env_file

if TYPE_CHECKING:
    from collections.abc import Collection

FILE = Path("jenkins", ".env")
LISTED = Path("jenkins", "environment.txt")
DATABASE = "POSTGRES_PASSWORD"
OF_THE_STACK = (
    "MLFLOW_ADMIN_PASSWORD",  # admin, who may do everything in MLflow
    "MLFLOW_READER_PASSWORD",  # serving, who reads the registry
    "MLFLOW_SESSION_KEY",  # signs the cookies of MLflow's pages
    "MLFLOW_TRACKING_PASSWORD",  # pipeline, who logs runs and registers models
    DATABASE,
    "S3_ACCESS_KEY_ID",
    "S3_SECRET_ACCESS_KEY",
    "SERVING_TOKEN",  # what Deploy shows to the server
)
OTHERS = 0o077  # the bits of a mode that let anybody but the owner in


class Change(NamedTuple):
    """What became of the file."""

    added: list[str]
    rotated: list[str]
    was_open: int | None  # the mode in which others could read it


def names() -> list[str]:
    """Return the names of all secrets that nobody has to choose."""
    listed = [line.split() for line in LISTED.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return sorted({*OF_THE_STACK, *(words[0] for words in listed if words and words[1] == "random")})


def fill(rotate: Collection[str] = ()) -> Change:
    """Give a random value to each secret that has none, and to those that are to be rotated; touch nothing else.

    Raises:
        UsageError: what is to be rotated is none of these secrets.
        UserError: git would take the file up, or a line of it is malformed.
    """
    known = names()
    if strange := sorted(set(rotate) - set(known)):
        raise UsageError(f"{strange[0]} is none of the random secrets; they are {', '.join(known)}")
    _keep_out_of_git()
    was_open = _close()
    text = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    present = {name for name, value in _values(text).items() if value}
    change = Change([name for name in known if name not in present], sorted(present & set(rotate)), was_open)
    if new := {name: secrets.token_urlsafe() for name in (*change.added, *change.rotated)}:
        _write(env_file.changed(text, new))
    return change


def value(name: str) -> str:
    """Return one value.

    Raises:
        UserError: there is none, or a line of the file is malformed.
    """
    text = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    found = _values(text).get(name)
    if not found:
        raise UserError(f"{FILE} has no {name}: scripts/ct secrets writes what is missing")
    return found


def _values(text: str) -> dict[str, str]:
    try:
        return env_file.values(text)
    except UserError as problem:
        raise UserError(f"{FILE}: {problem}") from None


def _keep_out_of_git() -> None:
    """Make sure that no commit can have the file in it.

    Raises:
        UserError: it could, or has already.
    """
    if _git("rev-parse", "--git-dir").returncode:
        return  # an unpacked archive: there is nothing that it could be committed to
    if _git("ls-files", "--error-unmatch", "--", str(FILE)).returncode == 0:
        raise UserError(f"{FILE} is in git: remove it with git rm --cached {FILE}, and rotate what is in it")
    if _git("check-ignore", "--quiet", "--", str(FILE)).returncode:
        raise UserError(f"{FILE} would get into the next commit: add it to .gitignore first")


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], capture_output=True, check=False)


def _close() -> int | None:
    """Let nobody but the owner read the file; return the mode in which others could."""
    if not FILE.exists():
        return None
    mode = FILE.stat().st_mode & 0o777
    if not mode & OTHERS:
        return None
    FILE.chmod(mode & ~OTHERS)
    return mode


def _write(text: str) -> None:
    """Write the file, whole or not at all; at no time can others read it, or what becomes it."""
    temporary = FILE.with_name(f"{FILE.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(FILE)
    finally:
        temporary.unlink(missing_ok=True)
