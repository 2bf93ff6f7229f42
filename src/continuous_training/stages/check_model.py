"""Check model: run the behaviour tests in tests/<model>/test_behaviour.py on the candidate, and check past failures.

The tests get two environment variables: CT_CANDIDATE, the folder of the stored model, and CT_FRESH_ROWS, a Parquet file
of features. They need neither a registry nor a warehouse, and nothing of this project.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from continuous_training.data.snapshots import read_snapshot
from continuous_training.documents import BUILD, Candidate, Check, ModelCheck, Run, Snapshot, Stopwatch
from continuous_training.errors import UserError
from continuous_training.fork_server import client
from continuous_training.registry import connection
from continuous_training.settings import TESTS
from continuous_training.stages import past_failures, test
from continuous_training.stages.assertions import find_tests_without_assertion
from continuous_training.versions import signing
from continuous_training.versions.examination import Policy
from continuous_training.versions.opening import open_version

if TYPE_CHECKING:
    import pandas as pd

    from continuous_training.settings import Data, Settings

log = logging.getLogger(__name__)

JUNIT, REFIT_JUNIT = BUILD / "junit" / "model.xml", BUILD / "junit" / "refit.xml"
ROWS = 2000  # enough to show a behaviour, few enough for a hundred predictions
COMPLETED = {0, 1}  # pytest's exit codes if all tests ran: all passed, or some failed
NO_TEST = 5
# A fork has imported some plugins, and pytest warns that their assertions are Python's own
IN_A_FORK = ("-W", "ignore::pytest.PytestAssertRewriteWarning")


def check(
    run: Run, settings: Settings, snapshot: Snapshot, candidate: Candidate, timer: Stopwatch, junit: Path = JUNIT
) -> ModelCheck:
    """Run the model's behaviour tests on the candidate, and check its past failures.

    A model without any has no checks. The results of the tests are written to the file `junit`.

    Raises:
        UserError: the candidate is not to be trusted, or the tests cannot be run.
    """
    tests = TESTS / run.model / "test_behaviour.py"
    if not tests.exists():
        log.warning("The candidate has no behaviour tests: write %s", tests)
        if not past_failures.read_all(run.model):
            return ModelCheck(checks=[], **timer.stop())
    connection.open_client()
    with open_version(candidate.model_uri, Policy(run.model, settings.model), candidate.run_id) as version:
        version.check_golden_predictions()
        results = past_failures.check(run.model, version, settings)
        if tests.exists():
            results = [*check_behaviour(tests, version.folder, snapshot, settings.data, junit), *results]
    return ModelCheck(checks=results, **timer.stop())


def check_behaviour(tests: Path, model: Path, snapshot: Snapshot, data: Data, junit: Path = JUNIT) -> list[Check]:
    """Run behaviour tests on a stored model and a sample of the fresh rows.

    Raises:
        UserError: the tests cannot be run.
    """
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder, "fresh.parquet")
        sample_rows(read_snapshot(snapshot.fresh.path, data), data).to_parquet(fresh)
        code = _run_tests(tests, model, fresh, junit)
    if code == NO_TEST:
        raise UserError(f"{tests} contains no test: write one, or remove the file")
    if code not in COMPLETED:
        raise UserError(f"{tests} cannot be run, pytest exited with {code}: correct the errors above")
    return checks(tests, junit)


def sample_rows(fresh: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Return the features of up to ROWS rows, evenly spread over time; deterministic for the same rows."""
    by_time = fresh.sort_values(data.time, kind="stable").index
    sample = by_time[np.linspace(0, len(fresh) - 1, min(ROWS, len(fresh))).astype(int)]
    return fresh.loc[sample.sort_values(), data.features]


def checks(tests: Path, junit: Path = JUNIT) -> list[Check]:
    """Read the result of each behaviour test; a skipped test is not a check.

    Raises:
        UserError: a test could not be run or asserts nothing, or all were skipped.
    """
    cases = test.cases(junit)
    executed_cases = [case for case in cases if case.outcome != "skipped"]
    for case in executed_cases:
        if case.outcome == "error":
            raise UserError(f"{tests} cannot run {case.name}: {_first_line(case.message)}")
    skipped_tests = [case.name for case in cases if case.outcome == "skipped"]
    if skipped_tests:
        log.warning("Skipped behaviour tests: %s", ", ".join(map(_behaviour, skipped_tests)))
    if not executed_cases:
        raise UserError(f"{tests} skips all its tests: nothing was checked on the candidate")
    _refuse_tests_without_assertion(tests, executed_cases)
    return [
        Check(
            name=_behaviour(case.name),
            passed=case.outcome == "passed",
            message="holds" if case.outcome == "passed" else _first_line(case.message),
        )
        for case in executed_cases
    ]


def _refuse_tests_without_assertion(tests: Path, executed_cases: list[test.Case]) -> None:
    """Raise a UserError if a test passed that would have passed with any model."""
    passed = {f"{case.module}.{case.name.partition('[')[0]}" for case in executed_cases if case.outcome == "passed"}
    for name in find_tests_without_assertion(tests):
        if any(f".{path}".endswith(f".{tests.stem}.{name}") for path in passed):
            raise UserError(f"{tests}: {name} asserts nothing, so it checks nothing: add an assert, or remove the test")


def _run_tests(tests: Path, model: Path, fresh: Path, junit: Path) -> int:
    """Run pytest on a stored model and these rows; return its exit code. Its output goes to standard error."""
    environment = os.environ | {"CT_CANDIDATE": str(model), "CT_FRESH_ROWS": str(fresh)}
    environment.pop(signing.KEY, None)  # Refit has it
    environment.pop("PYTEST_ADDOPTS", None)  # a user's options must not deselect a test
    junit.unlink(missing_ok=True)
    command = client.command(*test.pytest_arguments(junit, "-q", "--tb=short", *IN_A_FORK, str(tests)))
    return subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode


def _behaviour(name: str) -> str:
    """Return the behaviour that a test's name describes; parameters stay unchanged."""
    behaviour, bracket, parameters = name.removeprefix("test_").partition("[")
    return behaviour.replace("_", " ") + (f" [{parameters}" if bracket else "")


def _first_line(message: str) -> str:
    return message.removeprefix("AssertionError: ").partition("\n")[0].strip()
