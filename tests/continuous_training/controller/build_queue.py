"""Jenkins' queue and its builds, one after the other: each is a run of the project's own Jenkinsfile."""

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

NOBODY_ANSWERS = {"SERVING_URLS": "http://127.0.0.1:9"}  # a local run looks for a server at its end


@dataclass
class Item:
    """What waits to become a build, and the number of that which it became."""

    number: int
    parameters: dict[str, str]
    causes: list[str]
    is_quiet: bool  # in its quiet period, in which equal items are merged
    build: int | None = None


@dataclass
class Ran:
    """A build: what it was made from, and, when it has ended, the record of its run."""

    number: int
    item: Item
    commit: str
    record: dict[str, Any] | None = None


class Builds:
    """The queue and the only executor.

    `merges` is whether equal items of the queue become one, as in Jenkins; `begun` has builds that these go on after.
    """

    def __init__(self, repository: Path, workspace: Path, *, merges: bool = True, begun: Builds | None = None) -> None:
        self.repository = repository
        self.items: list[Item] = list(begun.items) if begun else []
        self.done: list[Ran] = list(begun.done) if begun else []
        self._workspace = workspace
        self._merges = merges
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        if begun:
            shutil.copytree(begun._workspace, workspace)
        else:
            sample_repository.git(repository.parent, "clone", "--quiet", str(repository), str(workspace))
        self._executor = threading.Thread(target=self._execute)
        self._executor.start()

    @property
    def pipeline(self) -> Pipeline:
        """What the Jenkinsfile of the branch says."""
        return parse((self.repository / "Jenkinsfile").read_text(), "Jenkinsfile")

    def schedule(self, given: dict[str, str], cause: str, *, quiet: bool = False) -> Item:
        """Put a build into the queue, or its cause to an equal one that waits there."""
        defaults = {one.name: to_string(one.default) for one in read_parameters(self.pipeline.parameters)}
        parameters = defaults | {name: value for name, value in given.items() if name in defaults}
        with self._changed:
            waiting = [item for item in self.items if item.build is None and item.parameters == parameters]
            if waiting and self._merges:
                waiting[0].causes.append(cause)
                return waiting[0]
            item = Item(len(self.items) + 1, parameters, [cause], quiet)
            self.items.append(item)
            self._changed.notify_all()
            return item

    def end_quiet_periods(self) -> None:
        """Let the executor take all items."""
        with self._changed:
            for item in self.items:
                item.is_quiet = False
            self._changed.notify_all()

    def folder(self, ran: Ran) -> Path:
        """Return where a build's record and its archive are."""
        return self._workspace / ".ct/builds" / str(ran.number)

    def index(self) -> None:
        """Do what Jenkins does when it finds the branch: build it, here to the end."""
        item = self.schedule({}, "Branch indexing")
        with self._changed:
            ended = self._changed.wait_for(lambda: any(ran.item is item and ran.record for ran in self.done), 60)
        assert ended, "the first build does not end"

    def close(self) -> None:
        """End the executor, and what it runs."""
        with self._changed:
            self._closed = True
            if self._process:
                self._process.terminate()
            self._changed.notify_all()
        self._executor.join()

    def _execute(self) -> None:
        while (item := self._next()) is not None:
            sample_repository.git(self._workspace, "pull", "--quiet", "--ff-only")
            number = len(self.done) + 1
            ran = Ran(number, item, sample_repository.head(self._workspace))
            with self._changed:
                item.build = number
                self.done.append(ran)
            self._run(ran)
            with self._changed:
                ran.record = _read(self.folder(ran) / "build.json")
                self._changed.notify_all()

    def _next(self) -> Item | None:
        """Wait for the first item that is due; None at the end."""
        with self._changed:
            while not self._closed:
                if due := [item for item in self.items if item.build is None and not item.is_quiet]:
                    return due[0]
                self._changed.wait()
            return None

    def _run(self, ran: Ran) -> None:
        command: list[str | os.PathLike[str]] = [sys.executable, ROOT / "scripts/run.py", "--branch", BRANCH]
        for name, value in ran.item.parameters.items():
            command += ["-P", f"{name}={value}"]
        with self._changed:
            if self._closed:
                return
            self._process = subprocess.Popen(
                command,
                cwd=self._workspace,
                env=without_addresses(os.environ) | NOBODY_ANSWERS,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._process.wait()


def validated(jenkinsfile: str) -> str:
    """Say of a Jenkinsfile what the declarative plugin's linter says, with the words of a local run."""
    try:
        parse(jenkinsfile, "WorkflowScript")
    except JenkinsfileError as error:
        return f"Errors encountered validating Jenkinsfile:\n{error}"
    return "Jenkinsfile successfully validated."


def _read(file: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"result": "ABORTED", "stages": []}
    return record
