"""Each version predicts in a process of its own, with its own code; what that process does harms nobody else."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest

from conftest import TIMEOUT, wait_until
from continuous_training.fork_server import client
from continuous_training.registry import model_versions
from continuous_training.serving.exposure import Exposure, end_exposure
from continuous_training.serving.following import hosts
from continuous_training.versions import host
from hostile import sign_again
from pipeline import Pipeline
from server import Server
from stored_versions import read_golden_predictions
from toy import change, import_again

pytestmark = pytest.mark.file_seconds(40)

SOURCE = Path("src/toy/model.py")
OWN_CLASS = """

import os, signal, time

POWER = 1


class Own(LogisticRegression):
    def predict_proba(self, X):
        if (X[:, -2] == 666).any():
            os.kill(os.getpid(), signal.SIGSEGV)
        while (X[:, -2] == 777).any():
            time.sleep(1)
        powers = super().predict_proba(X) ** POWER
        return powers / powers.sum(axis=1, keepdims=True)
"""
GOOD, DEADLY, ENDLESS = ["red", 1.5, None], ["red", 666.0, 1.0], ["red", 777.0, 1.0]


class Versions(NamedTuple):
    """Two versions of different code, and one whose code ends its process; for the first two, their golden rows."""

    run: Pipeline
    golden: dict[str, tuple[dict[str, Any], list[Any]]]


@pytest.fixture(scope="module")
def versions(mlflow_workspace_patch: pytest.MonkeyPatch) -> Versions:
    SOURCE.write_text(SOURCE.read_text() + OWN_CLASS)
    change("LogisticRegression(**parameters))", "Own(**parameters))", SOURCE)
    mlflow_workspace_patch.setattr(host, "CALL_SECONDS", 3)
    mlflow_workspace_patch.setattr(client, "command", lambda *program: [sys.executable, *program])  # no forks
    golden, power = {}, 1
    for number in ("1", "2", "3"):
        change(f"POWER = {power}\n", f"POWER = {number}\n", SOURCE)
        power = number
        import_again(mlflow_workspace_patch)
        run = Pipeline(mlflow_workspace_patch, FORCE="true")
        run.register(compare=False)
        golden[number] = read_golden_predictions(f"models:/toy/{number}")
    (package,) = Path(".ct/artifacts").rglob(f"{run.candidate.model_uri.removeprefix('models:/')}/artifacts/code/toy")
    with (package / "model.py").open("a") as model:
        model.write("\nos.kill(os.getpid(), signal.SIGKILL)\n")
    sign_again(package.parent.parent)
    return Versions(run, golden)


def promote(versions: Versions, number: str) -> None:
    versions.run.client.set_registered_model_alias("toy", model_versions.CHAMPION, number)


@contextmanager
def start_server(versions: Versions) -> Iterator[Server]:
    """Start a server that serves version 2."""
    promote(versions, "2")
    with Server() as server:
        server.wait_for_version("2")
        yield server


@pytest.fixture(scope="module")
def shared_server(versions: Versions) -> Iterator[Server]:
    """A server for the tests that leave it as it was: a start takes seconds."""
    with start_server(versions) as server:
        yield server


@pytest.fixture
def server(versions: Versions, shared_server: Server) -> Server:
    """A server of version 1, which has served version 2 before."""
    promote(versions, "1")
    shared_server.wait_for_version("1")
    return shared_server


def invoke(server: Server, *rows: list[Any]) -> tuple[int, str]:
    response = server.invoke(dataframe_split={"columns": ["shade", "x", "y"], "data": rows})
    return response.status_code, response.headers.get("X-Model-Version", response.text)


def processes() -> dict[int, list[psutil.Process]]:
    """Return the hosts below this process, by process id, each with the processes of its connections."""
    starters = [child for child in psutil.Process().children() if host.PROGRAM in child.cmdline()]
    hosts_and_connections = {}
    for process in [process for starter in starters for process in starter.children()]:
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            hosts_and_connections[process.pid] = process.children()
    return hosts_and_connections


def test_versions_of_different_code_are_served_side_by_side(server: Server, versions: Versions) -> None:
    client, until = versions.run.client, datetime.now(UTC) + timedelta(hours=1)
    Exposure(version="2", role="canary", share=1.0, until=until).publish(client, "toy")
    wait_until(lambda: server.get("/health").json()["beside"], "the canary is served")
    check_golden_predictions(server, versions, "2")
    end_exposure(client, "toy")
    wait_until(lambda: server.get("/health").json()["beside"] is None, "the canary is no longer served")
    check_golden_predictions(server, versions, "1")


def check_golden_predictions(server: Server, versions: Versions, number: str) -> None:
    """Check that a version predicts for the clients of a server, and as it did when it was made."""
    rows, predictions = versions.golden[number]
    response = server.invoke(dataframe_split=rows)
    assert response.headers["X-Model-Version"] == number
    np.testing.assert_allclose(response.json()["predictions"], predictions, rtol=0, atol=1e-9)


def test_rows_that_end_the_versions_process_are_an_error_and_others_are_predicted(server: Server) -> None:
    results: list[tuple[int, str]] = []
    threads = [threading.Thread(target=lambda: results.append(invoke(server, GOOD))) for _ in range(20)]
    for thread in threads:
        thread.start()
    status, message = invoke(server, DEADLY)
    for thread in threads:
        thread.join()
    assert status == 500
    assert "the model's process ends with these rows" in message
    assert results == [(200, "1")] * len(threads)
    wait_until(lambda: 'ct_version_deaths_total{version="1"}' in server.get("/metrics").text, "deaths are counted")


def test_a_call_without_end_is_an_error(server: Server) -> None:
    assert invoke(server, ENDLESS)[0] == 500
    assert invoke(server, GOOD) == (200, "1")


def test_a_killed_process_loses_no_request(server: Server) -> None:
    for connections in processes().values():
        for process in connections:
            process.kill()
    assert invoke(server, GOOD) == (200, "1")
    for pid, connections in processes().items():
        os.kill(pid, signal.SIGKILL)
        for process in connections:
            process.kill()
    assert invoke(server, GOOD) == (200, "1")


def test_a_killed_host_is_replaced_while_its_version_goes_on(server: Server) -> None:
    before = processes().keys()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert invoke(server, GOOD) == (200, "1")
    wait_until(lambda: len(processes().keys() - before) == len(before), "the hosts are replaced")
    assert invoke(server, GOOD) == (200, "1")


def test_a_version_whose_process_dies_while_it_is_opened_is_not_served(server: Server, versions: Versions) -> None:
    promote(versions, "3")
    assert "version 3 of toy cannot be loaded: its process died while it was opened" in server.wait_for_failure()
    assert invoke(server, GOOD) == (200, "1")


def test_a_version_that_dies_again_and_again_is_replaced_by_the_one_before_and_no_process_remains(
    versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "DEATHS_SECONDS", 3600.0)
    others = processes().keys()
    with start_server(versions) as server:
        promote(versions, "1")
        server.wait_for_version("1")
        for _ in range(hosts.MAX_DEATHS // 2):
            assert invoke(server, DEADLY)[0] == 500
        failure = server.wait_for_failure()
        assert failure.startswith(f"version 1 of toy died {hosts.MAX_DEATHS} times")
        assert "killed by signal 11 (SIGSEGV)" in failure
        assert failure.endswith("version 2 is served in its place")
        server.wait_for_version("2")
        assert invoke(server, GOOD) == (200, "2")
        hosted = [process for pid, connections in processes().items() if pid not in others for process in connections]
        assert hosted
    assert processes().keys() == others
    gone, alive = psutil.wait_procs(hosted, timeout=TIMEOUT)
    assert (len(gone), alive) == (len(hosted), [])
