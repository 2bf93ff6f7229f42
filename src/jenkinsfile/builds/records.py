"""The records of local builds, kept as Jenkins keeps them: `.ct/builds/<number>/`."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil

from jenkinsfile.builds.processes import BUILD_COOKIE, end_marked
from jenkinsfile.builds.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DAY = 86400


@dataclass
class StageRecord:
    """How one stage went; `depth` is its level in the tree of stages."""

    name: str
    depth: int
    result: str = Result.NOT_BUILT.name
    seconds: float = 0.0


@dataclass
class Record:
    """What `build.json` holds."""

    number: int
    cookie: str
    started: str
    pid: int
    state: str = "running"
    result: str | None = None
    seconds: float = 0.0
    commit: str | None = None
    description: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    stages: list[StageRecord] = field(default_factory=list)


class Builds:
    """All builds of a workspace."""

    def __init__(self, workspace: Path) -> None:
        self.home = workspace / ".ct"
        self.folder = self.home / "builds"

    def open(self, parameters: dict[str, Any]) -> tuple[Record, Path]:
        """Start a record under the next number; gives it and its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max(self._numbers(), default=0) + 1
        while True:  # two runs may start at the same moment
            folder = self.folder / str(number)
            try:
                folder.mkdir()
                break
            except FileExistsError:
                number += 1
        started = datetime.now(UTC).isoformat(timespec="seconds")
        record = Record(number, str(uuid.uuid4()), started, os.getpid(), parameters=parameters)
        save(record, folder)
        return record, folder

    def last_parameters(self) -> dict[str, Any] | None:
        """Give the parameters of the last build, or None if there is none."""
        record = self._read(max(self._numbers(), default=0))
        return record["parameters"] if record else None

    def last_result(self, before: int) -> Result | None:
        """Give the result of the last finished build before a number."""
        for number in sorted(self._numbers(), reverse=True):
            record = self._read(number)
            if number < before and record and record.get("state") == "finished" and record.get("result"):
                return Result[record["result"]]
        return None

    def last_commit(self, before: int) -> str | None:
        """Give the commit of the last build before a number."""
        for number in sorted(self._numbers(), reverse=True):
            record = self._read(number)
            if number < before and record and record.get("commit"):
                return str(record["commit"])
        return None

    def end_the_dead(self, say: Callable[[str], None]) -> None:
        """End what builds left running whose runner was killed, and mark them ABORTED."""
        for number in sorted(self._numbers()):
            record = self._read(number)
            if not record or record.get("state") != "running" or _lives(record):
                continue
            ended = end_marked({BUILD_COOKIE: record["cookie"]})
            say(f"build {number} was killed: ended {ended} of its processes, its result is ABORTED")
            record |= {"state": "finished", "result": Result.ABORTED.name}
            _write(self.folder / str(number), record)

    def discard(self, *, keep: int | None = None, days: int | None = None) -> None:
        """Remove finished builds beyond the newest `keep`, and those older than `days`."""
        for place, number in enumerate(sorted(self._numbers(), reverse=True)):
            folder = self.folder / str(number)
            old = days is not None and time.time() - folder.stat().st_mtime > days * DAY
            if (keep is not None and place >= keep) or old:
                record = self._read(number)
                if record and record.get("state") != "running":
                    shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def alone(self, say: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock of `disableConcurrentBuilds`; a second run waits, and says for which build."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "run.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                running = [n for n in sorted(self._numbers()) if (self._read(n) or {}).get("state") == "running"]
                what = f"build {running[-1]}" if running else "another build"
                say(f"waiting for {what} to finish (disableConcurrentBuilds)")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _numbers(self) -> list[int]:
        return [int(one.name) for one in self.folder.glob("*") if one.name.isdigit()]

    def _read(self, number: int) -> dict[str, Any] | None:
        try:
            record = json.loads((self.folder / str(number) / "build.json").read_text())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None


def save(record: Record, folder: Path) -> None:
    """Write `build.json`, whole or not at all."""
    _write(folder, asdict(record))


def _write(folder: Path, record: dict[str, Any]) -> None:
    draft = folder / ".build.json"
    draft.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    draft.replace(folder / "build.json")


def _lives(record: dict[str, Any]) -> bool:
    """Tell whether the runner of a record is still there: a process of its number that began before the record did."""
    try:
        began = psutil.Process(record["pid"]).create_time()
    except (psutil.Error, KeyError):
        return False
    return began <= datetime.fromisoformat(record["started"]).timestamp() + 1
