"""Fixtures: a workspace for each test with a small model package, its warehouse and an empty MLflow."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from continuous_training import environments

# Not pytest's pythonpath, which would put the modules beside this one before a model's package in the model's tests
sys.path.insert(0, str(Path(__file__).parents[1] / "jenkinsfile"))
sys.path.insert(0, str(Path(__file__).with_name("jenkins")))
sys.path.insert(0, str(Path(__file__).parent))

from forked_python import ForkedPython
from toy import MODELS, events, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[2]

collect_ignore = ["models"]  # whose tests run where a test puts them

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before MLflow is imported: tests send no requests to other machines
os.environ["OMP_NUM_THREADS"] = "1"  # several threads are slower for models of few rows
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # processes start in half the time with bytecode

RUN_VARIABLES = """
    AS_OF AWS_ENDPOINT_URL AWS_PROFILE BRANCH_NAME BUILD_TAG BUILD_URL COMPUTE CT_AMI CT_BUCKET CT_INSTANCE_PROFILE
    CT_JENKINS_URL CT_MLFLOW_SECRET_PARAMETER CT_PREDICTIONS CT_PROGRESS CT_SECURITY_GROUP CT_SUBNETS
    CT_WAREHOUSE_URL FORCE GIT_COMMIT JENKINS_URL MLFLOW_RUN_ID MLFLOW_TRACKING_URI MLFLOW_TRACKING_USERNAME MODEL
    PROMOTE REASON ROLLBACK SERVING_TOKEN SERVING_TOKENS SERVING_URLS SLACK_WEBHOOK_URL TRIGGER WEBHOOK_TOKEN
    WEB_CONCURRENCY
"""

TABLES = {  # of faults, from the properties of tests that have these columns
    "faults on EC2: what was left alive, and what became of the training": ("fault", "left", "outcome"),
    "faults of the server: answers, failed, wrong, and what became of it": (
        *("server fault", "answers", "failed", "wrong"),
        "became",
    ),
}


RECEIVES_SIGINT = ("env", "--default-signal=INT")  # which a job in the background of a shell, such as CI, does not


def wait_until(holds: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Wait until a condition holds that other processes cause."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"timeout: not true that {what}")
        time.sleep(0.05)


def pytest_xdist_auto_num_workers() -> int | None:
    """Use one process more than there are cores, because many tests wait for other processes."""
    is_set = "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ
    return None if is_set else (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest, so that all processes end at about the same time."""
    seconds: dict[Path, float] = {}
    for item in items:
        if marker := item.get_closest_marker("integration"):
            seconds[item.path] = seconds.get(item.path, 0) + marker.kwargs.get("seconds", 10)
    items.sort(key=lambda item: seconds.get(item.path, 0), reverse=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables of faults whose tests have run."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    properties = [dict(report.user_properties) for report in reports if getattr(report, "when", "") == "teardown"]
    for title, columns in TABLES.items():
        rows = sorted(
            {tuple(str(values[name]) for name in columns) for values in properties if values.keys() >= {*columns}}
        )
        if rows:
            terminalreporter.section(title)
            for line in aligned(rows):
                terminalreporter.line(line)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, without trailing spaces."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


@pytest.fixture(autouse=True)
def _outside_any_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RUN_VARIABLES.split():
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def env_python() -> Callable[[str], Path]:
    """Return a function that gives the Python of a separate environment, as `env_python("jenkins/airflow")`."""
    return lambda folder: environments.ensure_python(ROOT / folder / environments.LOCK, ROOT / environments.FOLDER)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of all workers."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@contextmanager
def making(path: Path) -> Iterator[bool]:
    """Make something for all workers; yields whether it is not there yet."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not path.exists()


@pytest.fixture(scope="session")
def forked_python(shared_folder: Path) -> Iterator[ForkedPython]:
    """Return what replaces the Python of programs that would import MLflow."""
    python = ForkedPython(shared_folder / "python")
    with ExitStack() as stack:
        with making(python.folder) as is_first:
            if is_first:
                stack.enter_context(python)
        yield python


@pytest.fixture(scope="session")
def empty_mlflow(shared_folder: Path) -> Path:
    """Return an empty SQLite database of MLflow, created once because its migrations take seconds."""
    import mlflow

    path = shared_folder / "mlflow.db"
    with making(path) as is_first:
        if is_first:
            mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def enter(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Enter a workspace with the model package `toy` and its warehouse of 90 days from 2020-01-01."""
    patch.chdir(folder)
    shutil.copytree(MODELS / "src/toy", folder / "src/toy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.lock", folder)
    store(events())
    patch.syspath_prepend(folder / "src")
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
        patch.delitem(sys.modules, name)
    patch.setenv("MODEL", "toy")
    patch.setenv("AS_OF", "2020-03-01")
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a workspace for this test."""
    return enter(tmp_path, monkeypatch)


@pytest.fixture
def tracked(workspace: Path, empty_mlflow: Path) -> Path:
    """Enter a workspace with an empty MLflow."""
    shutil.copy(empty_mlflow, workspace / ".ct" / "mlflow.db")
    return workspace


@pytest.fixture(scope="module")
def tracked_module(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Iterator[pytest.MonkeyPatch]:
    """Enter a workspace with an empty MLflow for all tests of a module; yield its monkeypatch."""
    with pytest.MonkeyPatch.context() as patch:
        for name in RUN_VARIABLES.split():
            patch.delenv(name, raising=False)
        folder = enter(tmp_path_factory.mktemp("workspace"), patch)
        shutil.copy(empty_mlflow, folder / ".ct" / "mlflow.db")
        yield patch
