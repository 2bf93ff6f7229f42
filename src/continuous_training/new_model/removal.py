"""Removing a model: its package and its tests."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from continuous_training.errors import UsageError, UserError
from continuous_training.model_packages import SETTINGS_FILE, SOURCES, list_models
from continuous_training.settings import STATE, TESTS


def remove(model: str, *, force: bool) -> list[Path]:
    """Remove a model's package and its tests from the working tree.

    Args:
        model: the package's name.
        force: whether to remove files that git does not have, or has otherwise.

    Returns:
        The folders that were removed.

    Raises:
        UsageError: there is no such model.
        UserError: git does not have all of its files as they are.
    """
    if not (SOURCES / model / SETTINGS_FILE).is_file():
        models = ", ".join(list_models()) or "none"
        raise UsageError(
            f"there is no model '{model}': {SOURCES / model / SETTINGS_FILE} is missing; the models here are: {models}"
        )
    folders = [folder for folder in (SOURCES / model, TESTS / model) if folder.exists()]
    if not force:
        _check_committed(folders)
    STATE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="removed-", dir=STATE) as temporary:
        for number, folder in enumerate(folders):
            shutil.move(folder, Path(temporary, str(number)))
    return folders


def _check_committed(folders: list[Path]) -> None:
    """Check that git can restore everything.

    Raises:
        UserError: it cannot.
    """
    command = ["git", "status", "--porcelain", "--untracked-files=all", "--", *map(str, folders)]
    try:
        status = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError("git cannot tell whether the files are committed: --force removes them nevertheless") from error
    if files := [line[3:] for line in status.splitlines()]:
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        raise UserError(
            f"git could not restore {', '.join(files[:3])}{more}: commit the changes first, or lose them with --force"
        )
