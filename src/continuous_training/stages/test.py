"""Test: pytest, with its results in the form that Jenkins reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from continuous_training import environments
from continuous_training.documents import BUILD
from continuous_training.errors import UsageError

JUNIT = BUILD / "junit" / "tests.xml"
QUICK = ("-m", "not integration")
APART = (  # what integration tests want, each apart
    *("jenkins/airflow", "jenkins/ingest", "jenkins/ingest/source-faker"),
    *("tests/continuous_training/bigquery", "tests/continuous_training/snowflake"),
)
# Each process gets the next file, the longest first, when it has done one: what its tests share is made once
AT_ONCE = ("-n", "auto", "--maxprocesses=4", "--dist=loadfile", "--no-loadscope-reorder")
# One after the other, each line when it is true, and no traceback with what a call was given
ON_JENKINS = (
    *("tests/continuous_training/controller/test_controller.py", "-n0", "--tb=short", "--override-ini=log_cli=true"),
    *("--log-cli-level=INFO", "--log-cli-format=%(asctime)s %(message)s", "--log-cli-date-format=%H:%M:%S"),
)


class Case(NamedTuple):
    """One test and what became of it; an `error` happened around the test, in what it stands on."""

    module: str
    name: str
    outcome: Literal["passed", "failure", "error", "skipped"]
    message: str


def command(junit: Path, *arguments: str) -> list[str]:
    """Return the command that runs pytest and leaves its results in a JUnit file."""
    return [sys.executable, "-m", "pytest", f"--junitxml={junit}", *arguments]


def test(*arguments: str) -> int:
    """Run pytest with the given arguments; return its exit code and leave its results in build/junit/tests.xml."""
    return subprocess.run(command(JUNIT, *AT_ONCE, *arguments), check=False).returncode


def set_up() -> None:
    """Make the environments of their own, so that no test asks for packages.

    Raises:
        UserError: they cannot be had.
    """
    for folder in APART:
        environments.ensure_python(Path(folder, environments.LOCK))


def on_jenkins(url: str, minutes: float) -> tuple[str, ...]:
    """Return the arguments of pytest for the checks of a controller, who waits so long for each run.

    Raises:
        UsageError: that is no address, or one with a password in it.
    """
    address = urlsplit(url)
    if "@" in address.netloc:
        raise UsageError(
            "an address with a user in it is seen by everybody: set JENKINS_USER_ID and JENKINS_API_TOKEN instead"
        )
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise UsageError(f"«{url}» is no address: write it as http://localhost:8080")
    return *ON_JENKINS, f"--jenkins={url}", f"--jenkins-minutes={minutes:g}"


def cases(junit: Path) -> list[Case]:
    """Read the tests from a JUnit file."""
    return [_case(found) for found in ET.parse(junit).getroot().iter("testcase")]  # noqa: S314 - pytest wrote it


def counts(junit: Path) -> tuple[int, int, int, list[str]]:
    """Read a JUnit file: how many tests passed, failed and were skipped, and the names of the failed ones."""
    found = cases(junit)
    outcomes = [case.outcome for case in found]
    failures = [f"{case.module}.{case.name}" for case in found if case.outcome in {"failure", "error"}]
    return outcomes.count("passed"), len(failures), outcomes.count("skipped"), failures


def _case(found: ET.Element) -> Case:
    module, name = found.get("classname", ""), found.get("name", "")
    for outcome in ("failure", "error", "skipped"):
        if (what := found.find(outcome)) is not None:
            return Case(module, name, outcome, what.get("message", ""))
    return Case(module, name, "passed", "")
