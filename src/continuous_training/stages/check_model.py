"""Check model: hold the candidate against the behaviour that tests/<model>/test_behaviour.py asks of it.

Two variables tell these tests what they are about: CT_CANDIDATE, the folder of the stored model, and CT_FRESH_ROWS, a
Parquet file of features. So they need neither a registry nor a warehouse, and nothing of this project.
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
from continuous_training.registry import connection
from continuous_training.settings import TESTS
from continuous_training.stages import test
from continuous_training.versions import loading

if TYPE_CHECKING:
    import pandas as pd

    from continuous_training.settings import Data, Settings

log = logging.getLogger(__name__)

JUNIT = BUILD / "junit" / "model.xml"
ROWS = 2000  # enough to show a behaviour, few enough to be asked about a hundred times
ANSWERED = {0, 1}  # pytest's exit codes when it could ask: all tests passed, or some failed
NO_TEST = 5


def check(run: Run, settings: Settings, snapshot: Snapshot, candidate: Candidate, timer: Stopwatch) -> ModelCheck:
    """Run the model's behaviour tests on the candidate; a model without any has no checks.

    Raises:
        UserError: the candidate is not to be trusted, or the tests cannot be run.
    """
    tests = TESTS / run.model / "test_behaviour.py"
    if not tests.exists():
        log.warning("No behaviour of the candidate is tested: write %s", tests)
        return ModelCheck(checks=[], **timer.stop())
    connection.open_client()
    loading.examine(candidate.model_uri, settings.model.trusted_types)
    with tempfile.TemporaryDirectory() as folder:
        code = _ask(
            tests, candidate, spread(read_snapshot(snapshot.fresh.path, settings.data), settings.data), Path(folder)
        )
    if code == NO_TEST:
        raise UserError(f"{tests} holds no test: write one, or remove the file")
    if code not in ANSWERED:
        raise UserError(f"{tests} cannot be run, pytest ended with {code}: mend what it complains about above")
    return ModelCheck(checks=checks(tests), **timer.stop())


def spread(fresh: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Return the features of up to ROWS rows, evenly spread over the time of all; the same ones for the same rows."""
    by_time = fresh.sort_values(data.time, kind="stable").index
    chosen = by_time[np.linspace(0, len(fresh) - 1, min(ROWS, len(fresh))).astype(int)]
    return fresh.loc[chosen.sort_values(), data.features]


def checks(tests: Path) -> list[Check]:
    """Read what pytest found of each behaviour; a skipped test asked nothing, so it is no check.

    Raises:
        UserError: a test could not be asked, or none was.
    """
    cases = test.cases(JUNIT)
    asked = [case for case in cases if case.outcome != "skipped"]
    for case in asked:
        if case.outcome == "error":
            raise UserError(f"{tests} cannot ask {case.name}: {_first_line(case.message)}")
    skipped = [case.name for case in cases if case.outcome == "skipped"]
    if skipped:
        log.warning("Not asked, for they are skipped: %s", ", ".join(map(_in_words, skipped)))
    if not asked:
        raise UserError(f"{tests} skips all its tests: nothing is known of the candidate")
    found = [(case, case.outcome == "passed") for case in asked]
    return [
        Check(name=_in_words(case.name), passed=passed, message="holds" if passed else _first_line(case.message))
        for case, passed in found
    ]


def _ask(tests: Path, candidate: Candidate, rows: pd.DataFrame, folder: Path) -> int:
    """Run pytest on the stored model and these rows; return its exit code. It speaks on standard error, as logs do."""
    import mlflow.artifacts

    fresh = folder / "fresh.parquet"
    rows.to_parquet(fresh)
    stored = mlflow.artifacts.download_artifacts(candidate.model_uri, dst_path=str(folder / "model"))
    threads = {"OMP_NUM_THREADS": "1"}  # many small questions: threads would only wait for each other
    environment = threads | os.environ | {"CT_CANDIDATE": stored, "CT_FRESH_ROWS": str(fresh)}
    environment.pop("PYTEST_ADDOPTS", None)  # nobody's own options may leave out a test
    JUNIT.unlink(missing_ok=True)
    command = test.command(JUNIT, "-q", "--tb=short", str(tests))
    return subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode


def _in_words(name: str) -> str:
    """Make a behaviour of a test's name; its parameters stay as they are."""
    behaviour, bracket, parameters = name.removeprefix("test_").partition("[")
    return behaviour.replace("_", " ") + (f" [{parameters}" if bracket else "")


def _first_line(message: str) -> str:
    return message.removeprefix("AssertionError: ").partition("\n")[0].strip()
