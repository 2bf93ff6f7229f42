"""The entry point of the Airflow image, run on this machine: an asset event starts a run in Jenkins."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from conftest import ROOT, TIMEOUT, wait_until
from dockerfile import environment, stages
from jenkins_builds import PASSWORD, POLLS, Jenkins, connection, jenkins
from ports import free_port

pytestmark = pytest.mark.integration(seconds=60)

IMAGE = ROOT / "jenkins" / "airflow"


class Server:
    """The entry point with a separate home; `log` has its output."""

    def __init__(self, python: Path, home: Path, jenkins_url: str) -> None:
        port, self.home, self.log = free_port(), home, home / "log"
        self.url, self.password = f"http://127.0.0.1:{port}", secrets.token_hex(12)
        image_variables = environment(stages(IMAGE / "Dockerfile")[-1])
        variables = {
            **{name: value for name, value in image_variables.items() if name.startswith("AIRFLOW")},
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW_ADMIN_PASSWORD": self.password,
            "AIRFLOW_CONN_JENKINS_DEFAULT": connection(jenkins_url),
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__CORE__DAGS_FOLDER": str(IMAGE / "dags"),
            "AIRFLOW__CORE__PARALLELISM": "1",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python, IMAGE / "serve.py"], env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def health(self) -> dict[str, str]:
        """Return the status of its components, or nothing while it does not respond."""
        if self.process.poll() is not None:
            raise RuntimeError(self.log.read_text(errors="replace")[-4000:])
        try:
            response = requests.get(f"{self.url}/api/v2/monitor/health", timeout=TIMEOUT).json()
        except requests.RequestException:
            return {}
        return {name: part["status"] for name, part in response.items()}

    def token(self, password: str) -> requests.Response:
        return requests.post(
            f"{self.url}/auth/token", json={"username": "admin", "password": password}, timeout=TIMEOUT
        )

    @cached_property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(self.password).json()['access_token']}"}

    def request(self, path: str, **body: Any) -> dict[str, Any]:
        """Send a request as the admin: a POST if it has a body, else a GET."""
        method = "POST" if body else "GET"
        response = requests.request(
            method, f"{self.url}/api/v2/{path}", json=body or None, headers=self.headers, timeout=TIMEOUT
        )
        response.raise_for_status()
        content: dict[str, Any] = response.json()
        return content

    def runs(self) -> list[str]:
        """Return the states of the DAG's runs."""
        return [run["state"] for run in self.request("dags/continuous_training_on_data/dagRuns")["dag_runs"]]

    def processes(self) -> list[psutil.Process]:
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def visible_text(self) -> str:
        """Return what other users of the machine can see: its log and the command lines of its processes."""
        texts = [self.log.read_text(errors="replace")]
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # some end meanwhile
                texts += process.cmdline()
        return " ".join(texts)

    def kill(self) -> None:
        """Kill all its processes."""
        if self.process.poll() is None:
            for process in self.processes():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()


@pytest.fixture
def jenkins_stub() -> Iterator[Jenkins]:
    outcome = {
        "build/outcome.txt": "promoted: version 3 is the champion\n",
        "build/verdict.json": '{"decision": "promote"}',
    }
    with jenkins(artifacts=outcome, polls=2 * POLLS) as stub:
        yield stub


@pytest.fixture
def server(env_python: Callable[[str], Path], tmp_path: Path, jenkins_stub: Jenkins) -> Iterator[Server]:
    server = Server(env_python("jenkins/airflow"), tmp_path, jenkins_stub.url)
    try:
        components = {"metadatabase": "healthy", "scheduler": "healthy", "dag_processor": "healthy"}
        wait_until(lambda: components.items() <= server.health().items(), "all components of Airflow are healthy", 300)
        yield server
    finally:
        server.kill()


def test_an_asset_event_of_an_authenticated_user_starts_one_run(server: Server, jenkins_stub: Jenkins) -> None:
    assert (server.token(server.password).status_code, server.token("another").status_code) == (201, 401)
    assert requests.get(f"{server.url}/api/v2/dags", timeout=TIMEOUT).status_code == 401

    path = "assets?name_pattern=warehouse/data"
    wait_until(lambda: server.request(path)["assets"], "the DAGs are read", 300)
    (asset,) = server.request(path)["assets"]
    server.request("assets/events", asset_id=asset["id"], extra={"reason": "20,000 new flights", "as_of": "2013-05-01"})
    wait_until(lambda: server.runs() == ["success"], "the run is a success", 300)
    (build,) = jenkins_stub.builds
    parameters = {"TRIGGER": "data", "REASON": "20,000 new flights", "AS_OF": "2013-05-01"}
    assert parameters.items() <= build.parameters.items()
    (event,) = server.request("assets/events?source_dag_id=continuous_training_on_data")["asset_events"]
    assert event["extra"]["outcome"] == "promoted: version 3 is the champion"

    visible_text = server.visible_text()
    assert not [secret for secret in (server.password, PASSWORD) if secret in visible_text]
    modes = [(server.home / "airflow" / name).stat().st_mode & 0o777 for name in ("airflow.cfg", "passwords.json")]
    assert modes == [0o600, 0o600]
