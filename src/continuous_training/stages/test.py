"""Test: pytest on the model's tests, the framework's and the tool's, with results in the format that Jenkins reads."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from continuous_training import environments, extras
from continuous_training.documents import BUILD
from continuous_training.errors import UsageError, UserError
from continuous_training.stages import result_cache, source_tree

log = logging.getLogger(__name__)

JUNIT, FRAMEWORK_JUNIT = BUILD / "junit" / "tests.xml", BUILD / "junit" / "framework.xml"
SuiteName = Literal["model", "framework", "tool"]
SUITES: tuple[SuiteName, ...] = ("model", "framework", "tool")
QUICK = ("-m", "not integration")
ENVIRONMENTS = (  # each for packages that cannot be installed beside this project's; integration tests use them
    *("jenkins/airflow", "jenkins/ingest", "jenkins/ingest/source-faker"),
    *("tests/continuous_training/bigquery", "tests/continuous_training/snowflake"),
)
# Two workers a core, as tests wait for other processes half of their time. A worker takes the next file, the longest
# first, when it has finished one: a file's tests share their fixtures.
WORKERS = min(4, 2 * (os.cpu_count() or 1))
PARALLEL = (f"-n{WORKERS}", "--dist=loadfile", "--no-loadscope-reorder")
# One test after another, each line when it happens, and no traceback with the arguments of a call
CONTROLLER = (
    *("tests/continuous_training/controller/test_controller.py", "-n0", "--tb=short", "--override-ini=log_cli=true"),
    *("--log-cli-level=INFO", "--log-cli-format=%(asctime)s %(message)s", "--log-cli-date-format=%H:%M:%S"),
)
FRAMEWORK_FILES = (  # outside its folders: its tests read them
    *(".ci", "casc.yaml", "Dockerfile.jenkins", "Dockerfile.jenkins.dockerignore", "Jenkinsfile", "MLproject"),
    "README.md",
)
NO_TESTS = 5  # pytest's exit code


class Case(NamedTuple):
    """One test and its outcome; an `error` happened outside the test, in a fixture."""

    module: str
    name: str
    outcome: Literal["passed", "failure", "error", "skipped"]
    message: str


@dataclass(frozen=True)
class Selection:
    """The tests to run: suites (none: all, of all models), and pytest's arguments."""

    model: str
    suites: tuple[SuiteName, ...] = ()
    quick: bool = False
    arguments: tuple[str, ...] = ()

    @property
    def has_framework(self) -> bool:
        """Whether tests of the framework or the tool are among them."""
        return self.suites != ("model",)

    @property
    def junit(self) -> Path:
        """The file of the results: the stages Test and Test the framework run side by side."""
        return FRAMEWORK_JUNIT if self.has_framework else JUNIT

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the tests."""
        if not self.suites:
            return (source_tree.TESTS.as_posix(),)
        packages = {"model": self.model, "framework": source_tree.FRAMEWORK_PACKAGE, "tool": source_tree.TOOL_PACKAGE}
        return tuple((source_tree.TESTS / packages[suite]).as_posix() for suite in self.suites)

    @property
    def name(self) -> str:
        """The name of their result."""
        suites = [f"model-{self.model}" if suite == "model" else suite for suite in self.suites]
        return "-".join(["test", *(suites or ["all"]), *(["quick"] if self.quick else [])])

    def hash_inputs(self) -> str:
        """Hash all that the results depend on."""
        paths = {*source_tree.SETTINGS, *self.folders}
        if self.has_framework:
            paths |= {*source_tree.FRAMEWORK, *source_tree.TOOL, *FRAMEWORK_FILES}
        if not self.suites or "model" in self.suites:
            paths.add(source_tree.SOURCES.as_posix())  # the framework too: a model's tests may use it
        return result_cache.hash_inputs(paths)


class Counts(NamedTuple):
    """How many tests passed, failed and were skipped, the names of the failed ones, and the run that ran them."""

    passed: int
    failed: int
    skipped: int
    failures: list[str]
    earlier_run: str | None = None


def test(selection: Selection) -> tuple[int, Counts | None]:
    """Run the tests, unless they passed before with the same code.

    Returns:
        pytest's exit code, and the counts if pytest came to its end.

    Raises:
        UserError: the model's tests hold no test, or an environment of the integration tests cannot be made.
    """
    if "model" in selection.suites and not (source_tree.TESTS / selection.model).is_dir():
        log.warning("No tests of %s: write some in tests/%s/", selection.model, selection.model)
        return 0, Counts(0, 0, 0, [])
    inputs = selection.hash_inputs()
    if not selection.arguments and (result := result_cache.find(selection.name, inputs)):
        log.info("Tested in %s with the same code; FORCE=true tests again", result.run)
        return 0, Counts(result.passed, 0, result.skipped, [], result.run)
    result_cache.start(selection.name)
    selection.junit.unlink(missing_ok=True)
    if selection.has_framework:
        install_extras()
        if not selection.quick:
            make_environments()
    code = run_pytest(
        selection.junit,
        *(PARALLEL if selection.has_framework else ()),
        *(QUICK if selection.quick else ()),
        *(selection.folders if not selection.arguments or selection.suites else ()),
        *selection.arguments,
    )
    if code == NO_TESTS and not selection.arguments:
        raise UserError(f"{' and '.join(selection.folders)} holds no test: write one, or remove the folder")
    counts = count(selection.junit) if selection.junit.exists() else None
    if code == 0 and counts and not selection.arguments and inputs == selection.hash_inputs():
        result_cache.store(selection.name, inputs, passed=counts.passed, skipped=counts.skipped)
    return code, counts


def pytest_arguments(junit: Path, *arguments: str) -> list[str]:
    """Return Python's arguments that run pytest and leave its results in a JUnit file."""
    return ["-m", "pytest", f"--junitxml={junit}", *arguments]


def run_pytest(junit: Path, *arguments: str) -> int:
    """Run pytest; return its exit code."""
    return subprocess.run([sys.executable, *pytest_arguments(junit, *arguments)], check=False).returncode


def install_extras() -> None:
    """Install the extras of all models. The tests of one that cannot be installed are skipped, with the reason."""
    for name in extras.list_extras():
        try:
            extras.install(name)
        except UserError as error:
            log.warning("The tests of %s are skipped: %s", name, error)


def make_environments() -> None:
    """Make the separate environments before the tests, so that no test downloads packages.

    Raises:
        UserError: the packages cannot be installed.
    """
    for folder in ENVIRONMENTS:
        environments.ensure_python(Path(folder, environments.LOCK))


def controller_arguments(url: str, minutes: float) -> tuple[str, ...]:
    """Return pytest's arguments for the checks of a Jenkins controller, with a limit in minutes for each run.

    Raises:
        UsageError: the URL is not one, or holds a user or a password.
    """
    address = urlsplit(url)
    if "@" in address.netloc:
        raise UsageError(
            "the URL holds a user, which everybody can see: set JENKINS_USER_ID and JENKINS_API_TOKEN instead"
        )
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise UsageError(f"'{url}' is not a URL: write it as http://localhost:8080")
    return *CONTROLLER, f"--jenkins={url}", f"--jenkins-minutes={minutes:g}"


def cases(junit: Path) -> list[Case]:
    """Read the tests from a JUnit file."""
    root = ET.parse(junit).getroot()  # noqa: S314 - pytest wrote it
    return [_case(element) for element in root.iter("testcase")]


def count(junit: Path) -> Counts:
    """Read the counts from a JUnit file."""
    results = cases(junit)
    outcomes = [case.outcome for case in results]
    failures = [f"{case.module}.{case.name}" for case in results if case.outcome in {"failure", "error"}]
    return Counts(outcomes.count("passed"), len(failures), outcomes.count("skipped"), failures)


def _case(element: ET.Element) -> Case:
    module, name = element.get("classname", ""), element.get("name", "")
    for outcome in ("failure", "error", "skipped"):
        if (detail := element.find(outcome)) is not None:
            return Case(module, name, outcome, detail.get("message", ""))
    return Case(module, name, "passed", "")
