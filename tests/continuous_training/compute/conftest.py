"""Fixtures: a project that trains on EC2, with an AWS account of the test cloud and a real MLflow server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud.aws import Aws
from cloud.mlflow_server import MlflowServer
from conftest import ROOT, TIMEOUT
from continuous_training.compute.ec2 import watcher
from ec2_project import COMPUTE, Project
from forked_python import ForkedPython
from toy import change


@pytest.fixture(scope="module")
def mlflow_server(
    tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path, forked_python: ForkedPython
) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copy(empty_mlflow, folder)
    with MlflowServer(folder, forked_python.mlflow) as server:
        yield server


@pytest.fixture
def project(
    workspace: Path,
    mlflow_server: MlflowServer,
    forked_python: ForkedPython,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    record_property: Callable[[str, object], None],
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Project]:
    """Make the toy workspace a git repository like that of a real model, with an AWS account."""
    caplog.set_level("INFO", logger="continuous_training")
    monkeypatch.setattr(watcher, "MAX_MISSED_HEARTBEATS", TIMEOUT)  # on a busy machine they are late
    change("compare:\n", f"{COMPUTE.lstrip()}compare:\n")
    for name in ("scripts", "src/continuous_training"):
        shutil.copytree(ROOT / name, workspace / name)  # with bytecode for a faster start; git ignores it
    shutil.copy(ROOT / "MLproject", workspace)
    (workspace / ".gitignore").write_text(".ct/\nbuild/\n__pycache__/\n")
    subprocess.run(["git", "init", "--quiet"], check=True)
    with Aws() as aws:
        for name, value in {**aws.environment, "MLFLOW_TRACKING_URI": mlflow_server.uri}.items():
            monkeypatch.setenv(name, value)
        yield Project(monkeypatch, aws, forked_python, tmp_path_factory.mktemp("cloud"))
        remaining = aws.billable_resources()
        record_property("remaining resources", ", ".join(remaining) or "nothing")
        assert remaining == []
        assert aws.authorizer.denied == []
