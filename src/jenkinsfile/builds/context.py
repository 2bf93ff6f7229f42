"""What a step sees while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from jenkinsfile.builds.interruption import Interruption
from jenkinsfile.builds.records import Record, StageRecord, save
from jenkinsfile.builds.results import Result

if TYPE_CHECKING:
    from pathlib import Path

    from jenkinsfile.builds.console import Console
    from jenkinsfile.syntax.model import Position, Stage


@dataclass
class Build:
    """The build that runs: what all its stages share."""

    record: Record
    folder: Path
    workspace: Path
    parameters: Mapping[str, Any]
    previous: Result | None
    previous_commit: str | None
    restarted: bool
    credentials: Mapping[str, str]
    interruption: Interruption = field(default_factory=Interruption)  # a signal ends the stages by it
    last_interruption: Interruption = field(default_factory=Interruption)  # a second signal ends `post` too
    reports: list[tuple[str, Path]] = field(default_factory=list)
    stages: dict[Position, StageRecord] = field(default_factory=dict)
    result: Result = Result.SUCCESS
    began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def worsen(self, result: Result) -> None:
        """Set the build's result, if it is worse than what it is."""
        with self._lock:
            self.result = max(self.result, result)

    def plan(self, stages: Iterable[Stage], depth: int = 0) -> None:
        """Put stages in the record; each counts as not built until it has run."""
        for stage in stages:
            self.stages[stage.position] = StageRecord(stage.name, depth)
            self.plan(stage.children, depth + 1)

    def save(self) -> None:
        """Write the record as it stands."""
        with self._lock:
            self.record.seconds = round(time.monotonic() - self.began, 3)
            self.record.stages = list(self.stages.values())
            save(self.record, self.folder)


class StageState:
    """The result of the stage that runs, while it runs."""

    def __init__(self) -> None:
        self.result = Result.SUCCESS

    def worsen(self, result: Result) -> None:
        """Set the stage's result, if it is worse than what it is."""
        self.result = max(self.result, result)


@dataclass(frozen=True)
class Context:
    """Where a step runs. A step with a body runs it in a context that differs in one thing."""

    build: Build
    console: Console
    stage: StageState
    environment: Mapping[str, str]
    directory: Path
    interruption: Interruption
    label: str = ""

    def within(self, **changes: object) -> Self:
        """Give this context with other values."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def with_variables(self, variables: Mapping[str, str]) -> Self:
        """Give this context with more environment variables."""
        return replace(self, environment={**self.environment, **variables})

    def say(self, text: str, style: str = "") -> None:
        """Show a line on the console and in the log."""
        self.console.line(text, label=self.label, style=style)

    def unstable(self, result: Result, stage_result: Result | None = None) -> None:
        """Worsen the build's result and the stage's, without an end of either."""
        self.build.worsen(result)
        self.stage.worsen(result if stage_result is None else stage_result)


Body = Callable[[Context], None]
