"""The secrets of the stack in jenkins/compose.yaml: random values in jenkins/.env, which Compose reads.

jenkins/environment.txt lists those of the Jenkins controller; those of the other services are listed here. The key that
signs versions has a public key, which is derived from it. Public keys of earlier keys stay in the file, so that their
versions are served until the operator removes them.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from continuous_training.errors import UsageError, UserError
from continuous_training.jenkins import env_file
from continuous_training.versions import signing

if TYPE_CHECKING:
    from collections.abc import Collection

FILE = Path("jenkins", ".env")
CONTROLLER_VARIABLES = Path("jenkins", "environment.txt")
DATABASE_PASSWORD = "POSTGRES_PASSWORD"  # noqa: S105 - a variable's name
SERVICE_SECRETS = (
    "MLFLOW_ADMIN_PASSWORD",  # of admin, with all permissions in MLflow
    "MLFLOW_READER_PASSWORD",  # of serving, which reads the registry
    "MLFLOW_SESSION_KEY",  # signs the cookies of MLflow's pages
    "MLFLOW_TRACKING_PASSWORD",  # of pipeline, which logs runs and registers models
    DATABASE_PASSWORD,
    "S3_ACCESS_KEY_ID",
    "S3_SECRET_ACCESS_KEY",
    "SERVING_TOKEN",  # sent by Deploy to the server
)
OTHERS = 0o077  # the mode bits of everybody but the owner


class Change(NamedTuple):
    """The changes to the file."""

    additions: list[str]
    rotations: list[str]
    open_mode: int | None  # the mode before, if others could read the file


def names() -> list[str]:
    """Return the names of all random secrets."""
    rows = [
        line.split()
        for line in CONTROLLER_VARIABLES.read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    return sorted({*SERVICE_SECRETS, *(row[0] for row in rows if row and row[1] == "random")})


def fill(rotate: Collection[str] = ()) -> Change:
    """Set each missing secret and each one to rotate to a random value; change nothing else.

    Raises:
        UsageError: a name to rotate is not one of these secrets.
        UserError: git would commit the file, or a line of it is malformed.
    """
    all_names = names()
    if unknown := sorted(set(rotate) - set(all_names)):
        raise UsageError(f"{unknown[0]} is not a random secret; they are {', '.join(all_names)}")
    _check_git_ignores()
    open_mode = _restrict_mode()
    text = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    values = {name: value for name, value in _parse(text).items() if value}
    additions = [name for name in all_names if name not in values]
    rotations = sorted(values.keys() & set(rotate))
    new = {name: secrets.token_urlsafe() for name in (*additions, *rotations)}
    public_keys = values.get(signing.PUBLIC_KEYS, "")
    if (keys := _add_public_key(public_keys, (values | new)[signing.KEY])) != public_keys:
        new[signing.PUBLIC_KEYS] = keys
        (rotations if public_keys else additions).append(signing.PUBLIC_KEYS)
    if new:
        _write(env_file.update(text, new))
    return Change(additions, rotations, open_mode)


def _add_public_key(public_keys: str, private_key: str) -> str:
    """Return public keys, separated by commas, with that of a private key first.

    Raises:
        UserError: it is not a private key.
    """
    try:
        key = signing.public_key(private_key)
    except ValueError as error:
        raise UserError(f"{FILE}: {signing.KEY} is not a signing key (32 bytes in base64url): {error}") from None
    others = [other.strip() for other in public_keys.split(",") if other.strip()]
    return public_keys if key in others else ",".join([key, *others])


def value(name: str) -> str:
    """Return one value.

    Raises:
        UserError: it is missing, or a line of the file is malformed.
    """
    text = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    secret = _parse(text).get(name)
    if not secret:
        raise UserError(f"{FILE} has no {name}: run scripts/ct secrets, which adds missing ones")
    return secret


def _parse(text: str) -> dict[str, str]:
    try:
        return env_file.parse(text)
    except UserError as error:
        raise UserError(f"{FILE}: {error}") from None


def _check_git_ignores() -> None:
    """Check that git ignores the file.

    Raises:
        UserError: git tracks it, or would add it.
    """
    if _git("rev-parse", "--git-dir").returncode:
        return  # not a repository
    if _git("ls-files", "--error-unmatch", "--", str(FILE)).returncode == 0:
        raise UserError(f"{FILE} is in git: run git rm --cached {FILE}, and rotate its secrets")
    if _git("check-ignore", "--quiet", "--", str(FILE)).returncode:
        raise UserError(f"{FILE} is not ignored by git: add it to .gitignore first")


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], capture_output=True, check=False)


def _restrict_mode() -> int | None:
    """Make the file readable for its owner only; return its mode before if others could read it."""
    if not FILE.exists():
        return None
    mode = FILE.stat().st_mode & 0o777
    if not mode & OTHERS:
        return None
    FILE.chmod(mode & ~OTHERS)
    return mode


def _write(text: str) -> None:
    """Write the file atomically; at no time can others read it or its temporary file."""
    temporary = FILE.with_name(f"{FILE.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(FILE)
    finally:
        temporary.unlink(missing_ok=True)
