"""A workspace of its own for each test: a small model package, its warehouse and an empty MLflow, all real."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from toy import MODEL, TRAINING, events, store

ROOT = Path(__file__).parents[1]

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before anything imports MLflow: tests call nothing outside
os.environ["OMP_NUM_THREADS"] = "1"  # models of a few rows: threads would only wait for each other

OF_A_RUN = """
    AS_OF BRANCH_NAME BUILD_TAG BUILD_URL COMPUTE CT_PROGRESS CT_WAREHOUSE_URL FORCE GIT_COMMIT MLFLOW_RUN_ID
    MLFLOW_TRACKING_URI MODEL PROMOTE REASON ROLLBACK SERVING_URLS TRIGGER
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest, so that the short ones fill the other processes meanwhile."""

    def seconds(item: pytest.Item) -> float:
        marker = item.get_closest_marker("integration")
        return marker.kwargs.get("seconds", 10) if marker else 0

    items.sort(key=seconds, reverse=True)
    items.insert(1, items.pop())  # each process is handed two to begin with: the two longest are not for one of them


@pytest.fixture(autouse=True)
def _outside_any_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OF_A_RUN.split():
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make MLflow's SQLite file once: its migrations take seconds."""
    import mlflow

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a workspace with the model package `toy` and its warehouse of 90 days from 2020-01-01."""
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "src" / "toy"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model.py").write_text(MODEL)
    (package / "training.yaml").write_text(TRAINING)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    store(events())
    monkeypatch.syspath_prepend(tmp_path / "src")
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("MODEL", "toy")
    monkeypatch.setenv("AS_OF", "2020-03-01")
    return tmp_path


@pytest.fixture
def tracked(workspace: Path, empty_mlflow: Path) -> Path:
    """Enter a workspace with an empty MLflow too."""
    shutil.copy(empty_mlflow, workspace / ".ct" / "mlflow.db")
    return workspace
