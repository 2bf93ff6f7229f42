"""The Airflow image's entry point, as it runs there: whoever says that the data are new has Jenkins train."""

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

from conftest import ROOT, wait_until
from dockerfile import environment, stages
from jenkins_builds import A_WHILE, PASSWORD, Jenkins, connection, jenkins
from server import free_port

pytestmark = pytest.mark.integration(seconds=60)

IMAGE = ROOT / "jenkins" / "airflow"


class Server:
    """The entry point with a home of its own; what it prints is in `log`."""

    def __init__(self, python: Path, home: Path, there: str) -> None:
        port, self.home, self.log = free_port(), home, home / "log"
        self.url, self.password = f"http://127.0.0.1:{port}", secrets.token_hex(12)
        of_the_image = environment(stages(IMAGE / "Dockerfile")[-1])
        given = {
            **{name: value for name, value in of_the_image.items() if name.startswith("AIRFLOW")},
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW_ADMIN_PASSWORD": self.password,
            "AIRFLOW_CONN_JENKINS_DEFAULT": connection(there),
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__CORE__DAGS_FOLDER": str(IMAGE / "dags"),
            "AIRFLOW__CORE__PARALLELISM": "1",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python, IMAGE / "serve.py"], env=given, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def health(self) -> dict[str, str]:
        """Return how its parts are, or nothing while it does not answer."""
        if self.process.poll() is not None:
            raise RuntimeError(self.log.read_text(errors="replace")[-4000:])
        try:
            told = requests.get(f"{self.url}/api/v2/monitor/health", timeout=30).json()
        except requests.RequestException:
            return {}
        return {name: part["status"] for name, part in told.items()}

    def token(self, password: str) -> requests.Response:
        return requests.post(f"{self.url}/auth/token", json={"username": "admin", "password": password}, timeout=30)

    @cached_property
    def sign(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(self.password).json()['access_token']}"}

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        """Ask as the admin: with a body, that something be made."""
        method = "POST" if body else "GET"
        answer = requests.request(method, f"{self.url}/api/v2/{path}", json=body or None, headers=self.sign, timeout=30)
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        return told

    def runs(self) -> list[str]:
        """Return how the DAG's runs are."""
        return [run["state"] for run in self.ask("dags/continuous_training_on_data/dagRuns")["dag_runs"]]

    def processes(self) -> list[psutil.Process]:
        found = psutil.Process(self.process.pid)
        return [found, *found.children(recursive=True)]

    def seen(self) -> str:
        """Return all that it shows to others on this machine: its log, and its processes' command lines."""
        words = [self.log.read_text(errors="replace")]
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # a zombie is none either: some end while they are looked at
                words += process.cmdline()
        return " ".join(words)

    def kill(self) -> None:
        """Leave nothing of it behind, whatever became of the test."""
        if self.process.poll() is None:
            for process in self.processes():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()


@pytest.fixture
def there() -> Iterator[Jenkins]:
    outcome = {"build/outcome.txt": "promoted: version 3 answers\n", "build/verdict.json": '{"decision": "promote"}'}
    with jenkins(artifacts=outcome, hurry=2 * A_WHILE) as found:
        yield found


@pytest.fixture
def server(env_python: Callable[[str], Path], tmp_path: Path, there: Jenkins) -> Iterator[Server]:
    found = Server(env_python("jenkins/airflow"), tmp_path, there.url)
    try:
        parts = {"metadatabase": "healthy", "scheduler": "healthy", "dag_processor": "healthy"}
        wait_until(lambda: parts.items() <= found.health().items(), "all of Airflow is healthy", 300)
        yield found
    finally:
        found.kill()


def test_whoever_has_the_password_can_say_that_data_are_new_and_jenkins_trains_once(
    server: Server, there: Jenkins
) -> None:
    assert (server.token(server.password).status_code, server.token("another").status_code) == (201, 401)
    assert requests.get(f"{server.url}/api/v2/dags", timeout=30).status_code == 401

    named = "assets?name_pattern=warehouse/data"
    wait_until(lambda: server.ask(named)["assets"], "the DAGs are read", 300)
    (asset,) = server.ask(named)["assets"]
    server.ask("assets/events", asset_id=asset["id"], extra={"reason": "20,000 new flights", "as_of": "2013-05-01"})
    wait_until(lambda: server.runs() == ["success"], "the run is a success", 300)
    (build,) = there.builds
    told = {"TRIGGER": "data", "REASON": "20,000 new flights", "AS_OF": "2013-05-01"}
    assert told.items() <= build.parameters.items()
    (kept,) = server.ask("assets/events?source_dag_id=continuous_training_on_data")["asset_events"]
    assert kept["extra"]["outcome"] == "promoted: version 3 answers"

    seen = server.seen()
    assert not [secret for secret in (server.password, PASSWORD) if secret in seen]
    modes = [(server.home / "airflow" / name).stat().st_mode & 0o777 for name in ("airflow.cfg", "passwords.json")]
    assert modes == [0o600, 0o600]
