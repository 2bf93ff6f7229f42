"""The running build, and the context in which a step runs."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from jenkinsfile.builds.interruption import Interruption
from jenkinsfile.builds.records import BuildRecord, PreviousBuilds, StageRecord, save_record
from jenkinsfile.builds.results import Result
from jenkinsfile.builds.source_code import find_changed_files

if TYPE_CHECKING:
    from pathlib import Path

    from jenkinsfile.builds.console import Console
    from jenkinsfile.syntax.model import Position, Stage


@dataclass
class Build:
    """The running build: the state that all its stages share."""

    record: BuildRecord
    folder: Path
    workspace: Path
    parameters: Mapping[str, Any]
    previous: PreviousBuilds
    credentials: Mapping[str, str]
    interruption: Interruption = field(default_factory=Interruption)  # a signal interrupts the stages
    post_interruption: Interruption = field(default_factory=Interruption)  # a second signal interrupts `post` too
    reports: list[tuple[str, Path]] = field(default_factory=list)
    stages: dict[Position, StageRecord] = field(default_factory=dict)
    result: Result = Result.SUCCESS
    start_time: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @functools.cached_property
    def changed_files(self) -> list[str]:
        """The paths that changed since the previous build, determined once per build."""
        return find_changed_files(self.workspace, self.previous.commit)

    def worsen(self, result: Result) -> None:
        """Set the result of the build unless it is already worse."""
        with self._lock:
            self.result = max(self.result, result)

    def add_stages(self, stages: Iterable[Stage], depth: int = 0) -> None:
        """Add stages to the record as NOT_BUILT, with their nested stages."""
        for stage in stages:
            self.stages[stage.position] = StageRecord(stage.name, depth)
            self.add_stages(stage.children, depth + 1)

    def save(self) -> None:
        """Write the current record."""
        with self._lock:
            self.record.seconds = round(time.monotonic() - self.start_time, 3)
            self.record.stages = list(self.stages.values())
            save_record(self.record, self.folder)


class StageState:
    """The result of a stage while it runs."""

    def __init__(self) -> None:
        self.result = Result.SUCCESS

    def worsen(self, result: Result) -> None:
        """Set the result of the stage unless it is already worse."""
        self.result = max(self.result, result)


@dataclass(frozen=True)
class Context:
    """The context in which a step runs. A step with a body runs the body in a changed copy."""

    build: Build
    console: Console
    stage: StageState
    environment: Mapping[str, str]
    directory: Path
    interruption: Interruption
    label: str = ""  # the name of the parallel branch

    def replace(self, **changes: object) -> Self:
        """Return a copy with other values."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def with_variables(self, variables: Mapping[str, str]) -> Self:
        """Return a copy with more environment variables."""
        return replace(self, environment={**self.environment, **variables})

    def log(self, text: str, style: str = "") -> None:
        """Write text to the console and the log."""
        self.console.line(text, label=self.label, style=style)

    def worsen(self, result: Result, stage_result: Result | None = None) -> None:
        """Worsen the results of the build and of the stage without interrupting them."""
        self.build.worsen(result)
        self.stage.worsen(result if stage_result is None else stage_result)


Body = Callable[[Context], None]
