"""Whole runs as a user starts them: `scripts/ct run` in a clone, with real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import psutil
import pytest
import requests
from numpy.typing import NDArray

from cloud.aws import Aws
from cloud.machine import Machines
from cloud.mlflow_server import MlflowServer
from conftest import ROOT, TIMEOUT, wait_until
from continuous_training.model_packages import list_models
from continuous_training.registry import connection
from continuous_training.versions import golden_predictions
from forked_python import ForkedPython
from project_venv import link_venv
from toy import MODELS, change, events, store

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration(seconds=240)

LIMIT = 300  # seconds for one `ct run`


class Clone:
    """A clone of this work tree with the model `toy` in place of its models; it shares environment and caches."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self._variables = variables
        self._copy_files()
        link_venv(folder)
        for name in ("src/toy", "tests/toy"):
            shutil.copytree(MODELS / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        store(events(), folder / ".ct/warehouse.duckdb")
        subprocess.run(["git", "init"], cwd=folder, check=True, capture_output=True)
        self.commit()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"

    def _copy_files(self) -> None:
        """Copy what git would, committed or not, except the models."""
        files = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        models = [ROOT / folder / model for folder in ("src", "tests") for model in list_models()]
        for name in filter(None, files.stdout.decode().split("\0")):
            file = ROOT / name
            if file.exists() and not any(file.is_relative_to(model) for model in models):
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, self.folder / name)

    def commit(self) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        for command in (["add", "--all"], [*identity, "commit", "--message", "change"]):
            subprocess.run(["git", *command], cwd=self.folder, check=True, capture_output=True)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": str(self.folder / "src"),
            "SERVING_URLS": self.url,
            "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache"),
            "RUFF_CACHE_DIR": str(ROOT / ".ruff_cache"),
            "OMP_NUM_THREADS": "1",  # threads that wait for each other slow down other tests
            **self._variables,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = ["scripts/ct", "run", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *arguments: str) -> str:
        process = self.start(*arguments)
        message, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, message
        return message

    def document(self, stem: str) -> dict[str, Any]:
        return json.loads((self.folder / f"build/{stem}.json").read_text())

    def production_version(self) -> str | None:
        try:
            return requests.get(f"{self.url}/version", timeout=TIMEOUT).json()["model_version"]
        except requests.ConnectionError:
            return None

    def fit(self, python: Path, snapshot: str) -> str:
        """Train in the clone; return the id of the MLflow run."""
        command = [python, "scripts/fit.py", "--snapshot", snapshot]
        process = subprocess.run(
            command, cwd=self.folder, env=self.environment, check=True, capture_output=True, text=True, timeout=LIMIT
        )
        return process.stdout.split()[-1]

    def stop(self) -> None:
        subprocess.run(["scripts/ct", "stop"], cwd=self.folder, env=self.environment, check=True, timeout=TIMEOUT)


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    clone = Clone(tmp_path)
    yield clone
    clone.stop()


@pytest.fixture
def aws() -> Iterator[Aws]:
    with Aws() as account:
        yield account


@pytest.fixture
def clone_on_ec2(
    aws: Aws, empty_mlflow: Path, forked_python: ForkedPython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Clone]:
    """Return a clone that trains on the test cloud, with an MLflow server that its instances can reach."""
    folders = {name: tmp_path / name for name in ("clone", "machines", "tracking")}
    for folder in folders.values():
        folder.mkdir()
    shutil.copy(empty_mlflow, folders["tracking"])
    extra = {"OMP_NUM_THREADS": "1"}
    with (
        MlflowServer(folders["tracking"], forked_python.mlflow) as tracking,
        Machines(aws, folders["machines"], forked_python.venv, extra=extra),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
        clone = Clone(folders["clone"], **aws.environment, MLFLOW_TRACKING_URI=tracking.uri)
        yield clone
        clone.stop()


def results(message: str) -> dict[str, str]:
    """Return the results of the stages from the table at the end."""
    return dict(
        re.findall(r"^ *(\S.*?) {2,}(SUCCESS|UNSTABLE|FAILURE|ABORTED|NOT_BUILT)\b", message, flags=re.MULTILINE)
    )


def kill(process: subprocess.Popen[str], after: str) -> None:
    """Kill the runner with -9 as soon as a line contains this text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if after in line:
            break
    else:
        pytest.fail(f"the run ended without '{after}':\n{''.join(lines)}")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def leftovers(folder: Path) -> list[psutil.Process]:
    """Return the processes in the clone other than the server and its workers."""
    processes = []
    for process in psutil.process_iter():
        try:
            ancestors = [process, *process.parents()]
            if process.cwd() == str(folder) and not any(
                "scripts/serve.py" in ancestor.cmdline() for ancestor in ancestors
            ):
                processes.append(process)
        except psutil.Error:
            continue
    return processes


def test_runs_from_the_first_model_to_nothing_new(clone: Clone) -> None:
    """Kill a run during its training, train the first champion, compare a candidate the night after, run again."""
    change("serving:", "refit: {min_gain: -1}\nserving:", clone.folder / "src/toy/training.yaml")  # on any rows
    clone.commit()
    kill(clone.start("-P", "AS_OF=2020-03-01"), after="Fitting Pipeline")
    assert clone.production_version() is None

    first = clone.run("-P", "AS_OF=2020-03-01")
    assert leftovers(clone.folder) == []
    assert set(results(first).values()) == {"SUCCESS", "NOT_BUILT"}
    stages_not_built = ["Roll back", "Hold", "Release", "Test the framework", "Approve"]
    assert [stage for stage, result in results(first).items() if result == "NOT_BUILT"] == stages_not_built
    assert clone.document("deployment")["model_version"] == "1"
    assert clone.production_version() == "1"

    refit = clone.document("refit")
    assert (refit["decision"], refit["trained_until"]) == ("refit", "2020-02-29T00:00:00")
    rows, predictions = golden(clone, str(refit["run_id"]))
    response = requests.post(f"{clone.url}/invocations", json={"dataframe_split": rows}, timeout=TIMEOUT)
    assert golden_predictions.describe_difference(response.json()["predictions"], predictions) is None

    second = clone.run("-P", "AS_OF=2020-03-02", "-P", "TRIGGER=cron", "-P", "REASON=new rows")
    verdict = clone.document("verdict")
    assert (verdict["champion"], verdict["judged_twin"]) == ("1", True)  # the refit has seen the fresh rows
    assert results(second)["Compare"] == {"promote": "SUCCESS", "reject": "UNSTABLE"}[str(verdict["decision"])]
    champion = {"promote": "2", "reject": "1"}[str(verdict["decision"])]
    assert clone.production_version() == champion

    third = clone.run("-P", "AS_OF=2020-03-02")
    assert "Linted in run 1 (ct-1) with the same code" in third
    assert "Tested in run 1 (ct-1) with the same code" in third
    assert "Nothing new to train" in third
    assert results(third)["Plan"] == "SUCCESS"
    assert {results(third)[stage] for stage in ("Train", "Compare", "Refit", "Register", "Deploy")} == {"NOT_BUILT"}
    assert clone.production_version() == champion
    page = (clone.folder / "build/report.html").read_text()
    assert "othing new to train" in page


def golden(clone: Clone, run_id: str) -> tuple[dict[str, Any], NDArray[Any]]:
    """Return the golden rows and predictions of the model that an MLflow run in this clone has stored."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{clone.folder / '.ct/mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    experiment = client.get_run(run_id).info.experiment_id
    (model,) = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
    address = f"{model.artifact_location}/golden.json"
    path = Path(mlflow.artifacts.download_artifacts(artifact_uri=address, tracking_uri=uri))
    return golden_predictions.read_golden_predictions(path.parent)


COMPUTE = """
compute:
  instance_types: [c7i.large]
  max_hours: 1
  max_cost_usd: 1
  prices: {c7i.large: 0.1}
"""


def test_a_model_trained_on_ec2_is_promoted_and_equals_one_trained_locally(
    clone_on_ec2: Clone, aws: Aws, forked_python: ForkedPython
) -> None:
    change("serving:", f"{COMPUTE.lstrip()}serving:", clone_on_ec2.folder / "src/toy/training.yaml")
    clone_on_ec2.commit()
    message = clone_on_ec2.run("-P", "COMPUTE=ec2", "-P", "AS_OF=2020-03-01")
    assert {results(message)[stage] for stage in ("Train", "Compare", "Refit", "Register", "Deploy")} == {"SUCCESS"}
    assert clone_on_ec2.production_version() == "1"
    assert len(aws.faults.calls_of("ec2", "RunInstances")) == 2  # the training, and the refit
    assert aws.billable_resources() == []
    assert aws.authorizer.denied == []

    connection.open_client()
    snapshot = str(clone_on_ec2.document("snapshot")["train"]["path"]).rpartition("/")[0]
    run_ids = str(clone_on_ec2.document("candidate")["run_id"]), clone_on_ec2.fit(forked_python.python, snapshot)
    (ec2_rows, ec2_predictions), (local_rows, local_predictions) = (golden(clone_on_ec2, each) for each in run_ids)
    assert ec2_rows == local_rows
    assert golden_predictions.describe_difference(ec2_predictions, local_predictions) is None


def test_ctrl_c_ends_every_process_and_still_publishes_the_report(clone: Clone) -> None:
    (clone.folder / "tests/toy/test_slow.py").write_text("import time\n\n\ndef test_slow():\n    time.sleep(1000)\n")
    process = clone.start()
    assert process.stdout is not None
    for line in process.stdout:
        if "test session starts" in line:
            break
    process.send_signal(signal.SIGINT)
    message, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert results(message)["Test"] == "ABORTED"
    assert "published Report" in message
    wait_until(lambda: leftovers(clone.folder) == [], "all processes of the run have ended")
