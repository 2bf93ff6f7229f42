"""The status of each worker of a server: one file for each, which every worker can read."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import psutil

from continuous_training.documents import write_atomically

if TYPE_CHECKING:
    from pathlib import Path


class WorkerStatuses:
    """The folder with the workers' status files."""

    def __init__(self, folder: Path, workers: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._own_file = folder / f"{os.getpid()}.json"
        self.workers = workers

    def write(self, status: dict[str, Any]) -> None:
        """Replace this worker's status."""
        write_atomically(self._own_file, json.dumps({"pid": os.getpid()} | status) + "\n")

    def remove_dead_workers(self) -> list[int]:
        """Remove the files of dead workers, and return their process ids."""
        dead_workers = [pid for pid in self._list_pids() if not psutil.pid_exists(pid)]
        for pid in dead_workers:
            (self._folder / f"{pid}.json").unlink(missing_ok=True)
        return dead_workers

    def read(self) -> list[dict[str, Any]]:
        """Return the statuses of all living workers, ordered by process id."""
        statuses = []
        for pid in sorted(self._list_pids()):
            if psutil.pid_exists(pid):
                try:
                    statuses.append(json.loads((self._folder / f"{pid}.json").read_text(encoding="utf-8")))
                except FileNotFoundError:
                    continue
        return statuses

    def _list_pids(self) -> list[int]:
        return [int(path.stem) for path in self._folder.glob("*.json")]
