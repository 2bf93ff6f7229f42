"""The records of local builds: `.ct/builds/<number>/build.json`, with the log and the archive beside it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil

from jenkinsfile.builds.processes import BUILD_COOKIE, terminate_matching
from jenkinsfile.builds.results import Result
from jenkinsfile.builds.source_code import STATE_FOLDER, SourceCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS_PER_DAY = 86400


@dataclass
class StageRecord:
    """The result of one stage. `depth` is its level in the tree of stages; 0 is the top level.

    `skip_reason` says why a stage did not run: `condition` (its `when`), `failure` or `unstable` (an earlier stage),
    or `restart` (it belongs to the build that this one continues).
    """

    name: str
    depth: int
    result: str = Result.NOT_BUILT.name
    seconds: float = 0.0
    skip_reason: str | None = None


@dataclass
class BuildRecord:
    """The content of `build.json`.

    `commit` and `tree` identify the source code at the start of the build (see `source_code`). `origin_build` and
    `origin_stage` are set by a restart: the build that this one continues, and its first stage.
    """

    number: int
    cookie: str
    started: str
    pid: int
    state: str = "running"
    result: str | None = None
    seconds: float = 0.0
    branch: str | None = None
    commit: str | None = None
    tree: str | None = None
    origin_build: int | None = None
    origin_stage: str | None = None
    description: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    stages: list[StageRecord] = field(default_factory=list)


@dataclass(frozen=True)
class PreviousBuilds:
    """What a build needs from those before it: the last result, the last commit, and the last successful commit."""

    result: Result | None = None
    commit: str | None = None
    successful_commit: str | None = None


class BuildStore:
    """The records of all builds of a workspace."""

    def __init__(self, workspace: Path) -> None:
        self.state_folder = workspace / STATE_FOLDER
        self.folder = self.state_folder / "builds"

    def create(
        self,
        *,
        branch: str,
        source_code: SourceCode,
        parameters: dict[str, Any],
        origin_build: int | None = None,
        origin_stage: str | None = None,
    ) -> tuple[BuildRecord, Path]:
        """Create a record with the next number. Returns the record and its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max(self._numbers(), default=0) + 1
        while True:  # another run may take the same number at the same moment
            folder = self.folder / str(number)
            try:
                folder.mkdir()
                break
            except FileExistsError:
                number += 1
        started = datetime.now(UTC).isoformat(timespec="seconds")
        record = BuildRecord(
            number=number,
            cookie=str(uuid.uuid4()),
            started=started,
            pid=os.getpid(),
            branch=branch,
            commit=source_code.commit,
            tree=source_code.tree,
            origin_build=origin_build,
            origin_stage=origin_stage,
            parameters=parameters,
        )
        save_record(record, folder)
        return record, folder

    def last(self) -> BuildRecord | None:
        """Return the record of the last build; None if there is none."""
        return self._read(max(self._numbers(), default=0))

    def previous(self, number: int) -> PreviousBuilds:
        """Return what a build needs from those with a lower number."""
        result = commit = successful_commit = None
        for earlier_number in sorted(self._numbers(), reverse=True):
            record = self._read(earlier_number) if earlier_number < number else None
            if record is None:
                continue
            if result is None and record.state == "finished" and record.result:
                result = Result[record.result]
            commit = commit or record.commit
            if record.result == Result.SUCCESS.name:
                successful_commit = successful_commit or record.commit
            if result is not None and commit and successful_commit:
                break
        return PreviousBuilds(result, commit, successful_commit)

    def abort_orphans(self, log: Callable[[str], None]) -> None:
        """Terminate the processes of builds whose runner was killed, and mark those builds as ABORTED."""
        for number in sorted(self._numbers()):
            record = self._read(number)
            if not record or record.state != "running" or _is_running(record):
                continue
            count = terminate_matching({BUILD_COOKIE: record.cookie})
            log(f"build {number} was killed: terminated {count} of its processes, its result is ABORTED")
            record.state, record.result = "finished", Result.ABORTED.name
            save_record(record, self.folder / str(number))

    def discard(self, *, keep: int | None = None, days: int | None = None) -> None:
        """Remove finished builds except for the newest `keep`, and those older than `days`."""
        for index, number in enumerate(sorted(self._numbers(), reverse=True)):
            folder = self.folder / str(number)
            is_old = days is not None and time.time() - folder.stat().st_mtime > days * SECONDS_PER_DAY
            if (keep is not None and index >= keep) or is_old:
                record = self._read(number)
                if record and record.state != "running":
                    shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def lock(self, log: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock of `disableConcurrentBuilds`. If another build holds it, log its number and wait."""
        self.state_folder.mkdir(parents=True, exist_ok=True)
        with (self.state_folder / "run.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                records = [self._read(number) for number in sorted(self._numbers())]
                running_builds = [record.number for record in records if record and record.state == "running"]
                name = f"build {running_builds[-1]}" if running_builds else "another build"
                log(f"waiting for {name} to finish (disableConcurrentBuilds)")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _numbers(self) -> list[int]:
        return [int(path.name) for path in self.folder.glob("*") if path.name.isdigit()]

    def _read(self, number: int) -> BuildRecord | None:
        """Read a record; None if it is missing or unreadable. Unknown fields are ignored."""
        names = {attribute.name for attribute in fields(BuildRecord)}
        stage_names = {attribute.name for attribute in fields(StageRecord)}
        try:
            content = json.loads((self.folder / str(number) / "build.json").read_text())
            record = BuildRecord(**{name: value for name, value in content.items() if name in names})
            record.stages = [
                StageRecord(**{name: value for name, value in stage.items() if name in stage_names})
                for stage in content.get("stages", [])
            ]
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        return record


def save_record(record: BuildRecord, folder: Path) -> None:
    """Write `build.json` atomically."""
    draft = folder / ".build.json"
    draft.write_text(json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n")
    draft.replace(folder / "build.json")


def _is_running(record: BuildRecord) -> bool:
    """Return whether the runner of a build is alive: a process with its id that started before the record."""
    try:
        start_time = psutil.Process(record.pid).create_time()
    except psutil.Error:
        return False
    return start_time <= datetime.fromisoformat(record.started).timestamp() + 1
