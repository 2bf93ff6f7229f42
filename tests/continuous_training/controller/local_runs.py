"""Local runs of a commit that a controller has built, to compare the builds with."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from conftest import TIMEOUT
from continuous_training.errors import UserError
from continuous_training.settings import BRANCH
from jenkinsfile.builds.records import StageRecord
from ports import free_port
from project_venv import link_venv

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from controller.client import Build

ADDRESSES_AND_SECRETS = (  # prefixes of variables
    *("AWS_", "CT_", "MLFLOW_", "PYTEST_", "SERVING_"),
    *("GITHUB_WEBHOOK_SECRET", "JENKINS_API_TOKEN", "JENKINS_USER_ID", "WEBHOOK_TOKEN"),
)
WITHOUT_TESTS = {"PYTEST_ADDOPTS": "--collect-only --quiet"}

log = logging.getLogger(__name__)


def without_addresses(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the addresses and secrets of services."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(ADDRESSES_AND_SECRETS) or name == "CT_PYTHON"
    }


class Clone:
    """A clone of a repository at a commit, with an empty `.ct/`: no warehouse, no champion, no server yet."""

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
        link_venv(folder)

    def run(self, parameters: Mapping[str, str], **environment: str) -> dict[str, Any]:
        """Run the Jenkinsfile and return the record of the build.

        Raises:
            UserError: the result is FAILURE, or the run does not end in time.
        """
        command = ["scripts/ct", "run", "--branch", BRANCH]
        for name, value in parameters.items():
            command += ["-P", f"{name}={value}"]
        log_file = self.folder.with_suffix(".log")
        log.info("scripts/ct run in %s, see %s", self.folder, log_file)
        with log_file.open("ab") as file:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            try:
                code = process.wait(self._minutes * 60)
            except subprocess.TimeoutExpired:
                raise UserError(f"the local run does not end in {self._minutes:g} minutes: see {log_file}") from None
            finally:
                process.terminate()
                process.wait()
        if code:
            raise UserError(
                f"the local run ends with exit code {code}, and the build on Jenkins did not fail: see {log_file}"
            )
        newest = max((self.folder / ".ct/builds").iterdir(), key=lambda build: int(build.name))
        record: dict[str, Any] = json.loads((newest / "build.json").read_text(encoding="utf-8"))
        return record

    def stop(self) -> None:
        """Stop the server that a run has started."""
        subprocess.run(["scripts/ct", "stop"], cwd=self.folder, env=self._environment, check=True, timeout=TIMEOUT)


class LocalRuns:
    """Repeats builds of a controller on this machine, each in a clone of its own."""

    def __init__(self, repository: Path, folder: Path, minutes: float = 60, **environment: str) -> None:
        self._repository = repository
        self._folder = folder
        self._minutes = minutes
        self._environment = environment

    def has_commit(self, commit: str) -> bool:
        """Return whether the repository on this machine has a commit."""
        command = ["git", "-C", str(self._repository), "cat-file", "-e", f"{commit}^{{commit}}"]
        return subprocess.run(command, check=False, capture_output=True, timeout=TIMEOUT).returncode == 0

    def repeat(self, build: Build, *, nothing_new: bool) -> tuple[str, list[StageRecord]]:
        """Run the Jenkinsfile at the commit and with the parameters of a build; return the result and the stages.

        `nothing_new` is whether the build had nothing new to train: then the same run is made once before.
        """
        assert build.commit
        folder = self._folder / f"build-{build.number}"
        clone = Clone(self._repository, build.commit, folder, self._minutes, **self._environment)
        try:
            if nothing_new:
                clone.run(build.parameters, **WITHOUT_TESTS)
            record = clone.run(build.parameters)
        finally:
            clone.stop()
        return record["result"], [StageRecord(**stage) for stage in record["stages"]]
