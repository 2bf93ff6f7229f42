"""Fixtures: a workspace for each test with a small model package, its warehouse and an empty MLflow."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from continuous_training import command, environments
from continuous_training.fork_server import client
from continuous_training.versions import signing

# Not pytest's pythonpath, which would put the modules beside this one before a model's package in the model's tests
sys.path.insert(0, str(Path(__file__).parents[1] / "jenkinsfile"))
sys.path.insert(0, str(Path(__file__).with_name("jenkins")))
sys.path.insert(0, str(Path(__file__).parent))

from forked_python import ForkedPython
from toy import MODELS, events, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[2]

collect_ignore = ["models"]  # tests copy its tests into workspaces and run them there

gc.set_threshold(command.OBJECTS_BETWEEN_COLLECTIONS)  # as the verbs of `ct`
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before MLflow is imported: tests send no requests to other machines
os.environ["OMP_NUM_THREADS"] = "1"  # several threads are slower for models of few rows
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # processes start in half the time with bytecode

RUN_VARIABLES = """
    ACCEPT AS_OF AWS_ENDPOINT_URL AWS_PROFILE BRANCH_NAME BUILD_TAG BUILD_URL BUILD_USER COMPUTE CT_AMI CT_BUCKET
    CT_JENKINS_URL CT_MLFLOW_SECRET_PARAMETER CT_PREDICTIONS CT_PROGRESS CT_SECURITY_GROUP CT_SIGNING_KEY
    CT_INSTANCE_PROFILE CT_SIGNING_PUBLIC_KEYS CT_SUBNETS
    CT_WAREHOUSE_URL FORCE GIT_COMMIT HOLD JENKINS_URL MLFLOW_RUN_ID MLFLOW_TRACKING_URI MLFLOW_TRACKING_USERNAME MODEL
    PROMOTE REASON ROLLBACK SERVING_TOKEN SERVING_TOKENS SERVING_URLS SLACK_WEBHOOK_URL TRIGGER WEBHOOK_TOKEN
    WEB_CONCURRENCY
"""

SIGNING_KEY = "0" * 42 + "A"

TABLES = {  # of the effects of faults; a row is a test's properties with these names
    "faults on EC2: the remaining resources, and the outcome of the training": (
        "fault",
        "remaining resources",
        "outcome",
    ),
    "faults of the server: predictions, failed, wrong, outcome": (
        *("server fault", "predictions", "failed", "wrong", "server outcome"),
    ),
}

TIMEOUT = 300  # seconds; only a call that hangs takes so long, even on a busy machine

RECEIVES_SIGINT = ("env", "--default-signal=INT")  # background jobs of a shell, as in CI, ignore SIGINT


def wait_until(condition: Callable[[], object], description: str, seconds: float = TIMEOUT) -> None:
    """Wait until other processes make a condition true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"timeout: not true that {description}")
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
        elif marker := item.get_closest_marker("file_seconds"):
            seconds[item.path] = max(seconds.get(item.path, 0), marker.args[0])
    items.sort(key=lambda item: seconds.get(item.path, 0), reverse=True)


def pytest_collection_finish() -> None:
    """Leave the modules that all tests have imported out of all collections."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Leave all objects out of the collections with which pytest ends, which take seconds."""
    gc.freeze()


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
            for line in align(rows):
                terminalreporter.line(line)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, without trailing spaces."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


@pytest.fixture(autouse=True)
def _clear_run_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RUN_VARIABLES.split():
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def env_python() -> Callable[[str], Path]:
    """Return a function that returns the Python of a separate environment, as `env_python("jenkins/airflow")`."""
    return lambda folder: environments.ensure_python(ROOT / folder / environments.LOCK, ROOT / environments.FOLDER)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@contextmanager
def create_once(path: Path) -> Iterator[bool]:
    """Lock a path that all workers share; yield whether it must be created."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not path.exists()


@pytest.fixture(scope="session")
def forked_python(shared_folder: Path) -> Iterator[ForkedPython]:
    """Return the Python whose programs are forks of a process that has imported MLflow."""
    python = ForkedPython(shared_folder / "python")
    with ExitStack() as stack:
        with create_once(python.folder) as is_missing:
            if is_missing:
                stack.enter_context(python)
        yield python


@pytest.fixture(scope="session")
def empty_mlflow(shared_folder: Path) -> Path:
    """Return an empty SQLite database of MLflow, created once because its migrations take seconds."""
    import mlflow

    path = shared_folder / "mlflow.db"
    with create_once(path) as is_missing:
        if is_missing:
            mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def write_signing_key(folder: Path) -> None:
    """Give a workspace the key of all tests: some copy registries from one workspace to another."""
    (folder / signing.KEY_FILE).write_text(SIGNING_KEY)
    (folder / signing.PUBLIC_KEY_FILE).write_text(signing.public_key(SIGNING_KEY))


def enter_workspace(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Enter a workspace with the model package `toy` and its warehouse of 90 days from 2020-01-01."""
    patch.chdir(folder)
    shutil.copytree(MODELS / "src/toy", folder / "src/toy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.lock", folder)
    store(events())
    write_signing_key(folder)
    patch.syspath_prepend(folder / "src")
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
        patch.delitem(sys.modules, name)
    patch.setenv("MODEL", "toy")
    patch.setenv("AS_OF", "2020-03-01")
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a workspace for this test."""
    return enter_workspace(tmp_path, monkeypatch)


@pytest.fixture
def mlflow_workspace(
    workspace: Path, empty_mlflow: Path, forked_python: ForkedPython, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Enter a workspace with an empty MLflow, in which versions are opened in forks, as in a run."""
    shutil.copy(empty_mlflow, workspace / ".ct" / "mlflow.db")
    monkeypatch.setattr(client, "command", forked_python.command)
    return workspace


@pytest.fixture
def search_workspace(mlflow_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter such a workspace, whose model package the processes of a search can import."""
    monkeypatch.setenv("PYTHONPATH", str(mlflow_workspace / "src"))
    return mlflow_workspace


@pytest.fixture(scope="module")
def mlflow_workspace_patch(
    tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path, forked_python: ForkedPython
) -> Iterator[pytest.MonkeyPatch]:
    """Enter such a workspace for all tests of a module; yield its monkeypatch."""
    with pytest.MonkeyPatch.context() as patch:
        for name in RUN_VARIABLES.split():
            patch.delenv(name, raising=False)
        folder = enter_workspace(tmp_path_factory.mktemp("workspace"), patch)
        shutil.copy(empty_mlflow, folder / ".ct" / "mlflow.db")
        patch.setattr(client, "command", forked_python.command)
        yield patch
