"""Jenkins' queue and its builds, one after the other: each is a run of the project's Jenkinsfile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conftest import ROOT
from continuous_training.settings import BRANCH
from controller import sample_repository
from controller.local_runs import without_addresses
from jenkinsfile.expressions.values import to_string
from jenkinsfile.parameters import read_parameters
from jenkinsfile.syntax.model import JenkinsfileError
from jenkinsfile.syntax.parser import parse

if TYPE_CHECKING:
    from pathlib import Path

    from jenkinsfile.syntax.model import Pipeline

NO_SERVER = {"SERVING_URLS": "http://127.0.0.1:9"}  # a local run looks for a server at its end


@dataclass
class QueueItem:
    """An item of the queue, and the number of the build that it became."""

    number: int
    parameters: dict[str, str]
    causes: list[str]
    in_quiet_period: bool  # during which Jenkins merges equal items
    build: int | None = None


@dataclass
class QueuedBuild:
    """A build with its item of the queue, and the record of its run when it has ended."""

    number: int
    item: QueueItem
    commit: str
    record: dict[str, Any] | None = None


class BuildQueue:
    """The queue and the only executor.

    Args:
        repository: the repository that is built.
        workspace: where to clone it to.
        merges: whether equal items are merged, as in Jenkins.
        initial: a queue whose items, builds and workspace are copied.
    """

    def __init__(
        self, repository: Path, workspace: Path, *, merges: bool = True, initial: BuildQueue | None = None
    ) -> None:
        self.repository = repository
        self.items: list[QueueItem] = list(initial.items) if initial else []
        self.builds: list[QueuedBuild] = list(initial.builds) if initial else []
        self._workspace = workspace
        self._merges = merges
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        if initial:
            shutil.copytree(initial._workspace, workspace)
        else:
            sample_repository.git(repository.parent, "clone", "--quiet", str(repository), str(workspace))
        self._executor = threading.Thread(target=self._execute)
        self._executor.start()

    @property
    def pipeline(self) -> Pipeline:
        """The Jenkinsfile of the branch."""
        return parse((self.repository / "Jenkinsfile").read_text(), "Jenkinsfile")

    def schedule(self, parameters: dict[str, str], cause: str, *, quiet_period: bool = False) -> QueueItem:
        """Add an item to the queue, or its cause to an equal item there; undeclared parameters are dropped."""
        defaults = {one.name: to_string(one.default) for one in read_parameters(self.pipeline.parameters)}
        parameters = defaults | {name: value for name, value in parameters.items() if name in defaults}
        with self._changed:
            equal = [item for item in self.items if item.build is None and item.parameters == parameters]
            if equal and self._merges:
                equal[0].causes.append(cause)
                return equal[0]
            item = QueueItem(len(self.items) + 1, parameters, [cause], quiet_period)
            self.items.append(item)
            self._changed.notify_all()
            return item

    def end_quiet_periods(self) -> None:
        """Let the executor build all items."""
        with self._changed:
            for item in self.items:
                item.in_quiet_period = False
            self._changed.notify_all()

    def folder(self, build: QueuedBuild) -> Path:
        """Return the folder with a build's record and its archive."""
        return self._workspace / ".ct/builds" / str(build.number)

    def index_branch(self) -> None:
        """Build the branch, as Jenkins does when it discovers it, and wait until the build ends."""
        item = self.schedule({}, "Branch indexing")
        with self._changed:
            ended = self._changed.wait_for(
                lambda: any(build.item is item and build.record for build in self.builds), 60
            )
        assert ended, "the first build does not end"

    def close(self) -> None:
        """Stop the executor and its process."""
        with self._changed:
            self._closed = True
            if self._process:
                self._process.terminate()
            self._changed.notify_all()
        self._executor.join()

    def _execute(self) -> None:
        while (item := self._next()) is not None:
            sample_repository.git(self._workspace, "pull", "--quiet", "--ff-only")
            number = len(self.builds) + 1
            build = QueuedBuild(number, item, sample_repository.head(self._workspace))
            with self._changed:
                item.build = number
                self.builds.append(build)
            self._run(build)
            with self._changed:
                build.record = _read_record(self.folder(build) / "build.json")
                self._changed.notify_all()

    def _next(self) -> QueueItem | None:
        """Wait for an item whose quiet period is over; return None after `close`."""
        with self._changed:
            while not self._closed:
                if due := [item for item in self.items if item.build is None and not item.in_quiet_period]:
                    return due[0]
                self._changed.wait()
            return None

    def _run(self, build: QueuedBuild) -> None:
        command: list[str | os.PathLike[str]] = [sys.executable, ROOT / "scripts/run.py", "--branch", BRANCH]
        for name, value in build.item.parameters.items():
            command += ["-P", f"{name}={value}"]
        with self._changed:
            if self._closed:
                return
            self._process = subprocess.Popen(
                command,
                cwd=self._workspace,
                env=without_addresses(os.environ) | NO_SERVER,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._process.wait()


def lint_jenkinsfile(jenkinsfile: str) -> str:
    """Return the message of the declarative plugin's linter about a Jenkinsfile, with the errors of a local run."""
    try:
        parse(jenkinsfile, "WorkflowScript")
    except JenkinsfileError as error:
        return f"Errors encountered validating Jenkinsfile:\n{error}"
    return "Jenkinsfile successfully validated."


def _read_record(file: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"result": "ABORTED", "stages": []}
    return record
