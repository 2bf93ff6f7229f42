"""Runs of the same commit on this machine, which a controller's are held against."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.errors import UserError
from continuous_training.settings import BRANCH
from environment import lend
from jenkinsfile.builds.records import StageRecord
from server import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from controller.client import Build

FOREIGN = (
    *("AWS_", "CT_", "MLFLOW_", "PYTEST_", "SERVING_"),
    *("GITHUB_WEBHOOK_SECRET", "JENKINS_API_TOKEN", "JENKINS_USER_ID", "WEBHOOK_TOKEN"),
)
UNTESTED = {"PYTEST_ADDOPTS": "--collect-only --quiet"}  # a run that only leaves a state behind needs no tests

log = logging.getLogger(__name__)


def without_addresses(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment that leads to no service of anybody, and holds no secret of one."""
    return {name: value for name, value in environment.items() if not name.startswith(FOREIGN) or name == "CT_PYTHON"}


class Clone:
    """A clone of a repository at a commit, with a `.ct/` of its own: no warehouse, no champion, no server yet."""

    def __init__(self, repository: Path, commit: str, folder: Path, minutes: float = 60, **environment: str) -> None:
        self.folder = folder
        self._minutes = minutes
        self._environment = without_addresses(os.environ) | {
            "PYTHONPATH": str(folder / "src"),
            "SERVING_URLS": f"http://127.0.0.1:{free_port()}",
            **environment,
        }
        for command in (
            ["git", "clone", "--quiet", "--no-checkout", str(repository), str(folder)],
            ["git", "-C", str(folder), "checkout", "--quiet", "--detach", commit],
        ):
            subprocess.run(command, check=True, capture_output=True, timeout=600)
        lend(folder)

    def run(self, parameters: Mapping[str, str], **environment: str) -> dict[str, Any]:
        """Make a run and return its record.

        Raises:
            UserError: it is a FAILURE, or does not end in time.
        """
        command = ["scripts/ct", "run", "--branch", BRANCH]
        for name, value in parameters.items():
            command += ["-P", f"{name}={value}"]
        message = self.folder.with_suffix(".log")
        log.info("scripts/ct run in %s, see %s", self.folder, message)
        with message.open("ab") as file:
            running = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            try:
                code = running.wait(self._minutes * 60)
            except subprocess.TimeoutExpired:
                raise UserError(f"the run here does not end in {self._minutes:g} minutes: see {message}") from None
            finally:
                running.terminate()
                running.wait()
        if code:
            raise UserError(f"the run here ends with exit code {code}, and Jenkins' did not fail: see {message}")
        newest = max((self.folder / ".ct/builds").iterdir(), key=lambda build: int(build.name))
        record: dict[str, Any] = json.loads((newest / "build.json").read_text(encoding="utf-8"))
        return record

    def stop(self) -> None:
        """End the server that a run has left."""
        subprocess.run(["scripts/ct", "stop"], cwd=self.folder, env=self._environment, check=True, timeout=120)


class Here:
    """Makes the run that corresponds to a controller's."""

    def __init__(self, repository: Path, folder: Path, minutes: float = 60, **environment: str) -> None:
        self._repository = repository
        self._folder = folder
        self._minutes = minutes
        self._environment = environment

    def has(self, commit: str) -> bool:
        """Tell whether the repository on this machine has a commit."""
        asked = ["git", "-C", str(self._repository), "cat-file", "-e", f"{commit}^{{commit}}"]
        return subprocess.run(asked, check=False, capture_output=True, timeout=60).returncode == 0

    def repeat(self, build: Build, *, learnt: bool) -> tuple[str, list[StageRecord]]:
        """Run what Jenkins has built, with its parameters; return the result and the stages.

        `learnt`: it had learnt all there was to learn by then, so a run of the same goes before.
        """
        assert build.commit
        folder = self._folder / f"of-build-{build.number}"
        clone = Clone(self._repository, build.commit, folder, self._minutes, **self._environment)
        try:
            if learnt:
                clone.run(build.parameters, **UNTESTED)
            record = clone.run(build.parameters)
        finally:
            clone.stop()
        return record["result"], [StageRecord(**stage) for stage in record["stages"]]
