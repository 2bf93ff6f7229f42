"""The board of a server: what each of its workers says of itself, a file for each, for any of them to read."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import psutil

from continuous_training.documents import write_atomically

if TYPE_CHECKING:
    from pathlib import Path


class Board:
    """The folder that the workers of one server share."""

    def __init__(self, folder: Path, workers: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._own = folder / f"{os.getpid()}.json"
        self.workers = workers

    def post(self, message: dict[str, Any]) -> None:
        """Say something of this worker, in place of what it said before."""
        write_atomically(self._own, json.dumps({"pid": os.getpid()} | message) + "\n")

    def clear(self) -> list[int]:
        """Remove what dead workers said, and return their process ids."""
        dead = [pid for pid in self._pids() if not psutil.pid_exists(pid)]
        for pid in dead:
            (self._folder / f"{pid}.json").unlink(missing_ok=True)
        return dead

    def read(self) -> list[dict[str, Any]]:
        """Return what the living workers say."""
        message = []
        for pid in sorted(self._pids()):
            if psutil.pid_exists(pid):
                try:
                    message.append(json.loads((self._folder / f"{pid}.json").read_text(encoding="utf-8")))
                except FileNotFoundError:
                    continue
        return message

    def _pids(self) -> list[int]:
        return [int(path.stem) for path in self._folder.glob("*.json")]
