"""The entry point of the MLflow image, run on this machine with PostgreSQL and an S3 server."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import psutil
import pytest
import requests
from mlflow.exceptions import MlflowException
from moto.core.base_backend import BackendDict

from cloud.server import Moto, Server
from conftest import ROOT, TIMEOUT
from continuous_training.registry import connection, model_versions
from dockerfile import environment, stages
from forked_python import ForkedPython
from pipeline import Pipeline
from ports import free_port
from postgresql import Postgresql, needs_postgresql
from stored_versions import load_estimator

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.integration(seconds=40), needs_postgresql]

IMAGE = ROOT / "jenkins" / "mlflow"
START_SECONDS = 300  # the first start creates the database, while other tests run
BUCKET, FOLDER = "artifacts", "folder/mlflow"
SPACE = "team-mlflow.hf.space"
AWS_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")


class Mlflow:
    """The entry point with a separate home; `command_lines` are those of all processes during its start."""

    def __init__(self, home: Path, database: Postgresql, storage: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.config, self.log = home / ".mlflow" / "basic_auth.ini", home / "log"
        self.passwords = {role: secrets.token_hex(12) + "%@:/ " for role in ("admin", "training", "serving")}
        self.secrets = [secrets.token_hex(16) for _ in range(2)]
        self.command_lines: set[str] = set()
        key, access = self.secrets
        self.secrets += [*self.passwords.values(), database.password]
        self.environment = {
            **{
                name: value for name, value in environment(stages(IMAGE / "Dockerfile")[-1]).items() if "MLFLOW" in name
            },
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PORT": str(port),
            "SPACE_HOST": SPACE,
            "MLFLOW_WORKERS": "1",
            "MLFLOW_BACKEND_STORE_URI": database.url,
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/{FOLDER}",
            "MLFLOW_S3_ENDPOINT_URL": storage,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": key,
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.passwords["admin"],
            "MLFLOW_AUTH_USER_USERNAME": "training",
            "MLFLOW_AUTH_USER_PASSWORD": self.passwords["training"],
            "MLFLOW_AUTH_READER_USERNAME": "serving",
            "MLFLOW_AUTH_READER_PASSWORD": self.passwords["serving"],
            "AWS_ACCESS_KEY_ID": "mlflow",
            "AWS_SECRET_ACCESS_KEY": access,
            "AWS_DEFAULT_REGION": "eu-central-1",
        }

    def start(self, python: Path | str = sys.executable) -> None:
        """Start it and wait until it responds."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [python, IMAGE / "serve.py"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            self.command_lines.update(
                " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
            )
            try:
                if requests.get(f"{self.url}/health", timeout=5).ok:
                    return
            except requests.RequestException:
                time.sleep(0.1)
        raise RuntimeError(f"the server did not start: {self.log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> int:
        """Stop it as Docker does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def processes(self) -> list[psutil.Process]:
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def kill(self) -> None:
        """Kill all its processes."""
        if self.process.poll() is None:
            for process in self.processes():
                process.kill()
        self.process.wait()

    def request(self, user: str | None = "admin", password: str | None = None, **headers: str) -> int:
        """Return the status of a request that every user may send."""
        auth = (user, password or self.passwords[user]) if user else None
        path = "api/2.0/mlflow/experiments/search"
        body = {"max_results": 1}
        return requests.post(f"{self.url}/{path}", json=body, auth=auth, headers=headers, timeout=TIMEOUT).status_code

    def log_in(self, patch: pytest.MonkeyPatch, user: str) -> None:
        """Set the variables of an MLflow user who has no AWS credentials."""
        for name in AWS_VARIABLES:
            patch.delenv(name, raising=False)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            patch.setenv(name, os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("MLFLOW_TRACKING_URI", self.url)
        patch.setenv("MLFLOW_TRACKING_USERNAME", user)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", self.passwords[user])


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    BackendDict.reset()
    with Server(Moto()) as storage:
        client = boto3.session.Session("tests", "tests").resource("s3", "us-east-1", endpoint_url=storage.url)
        yield client.create_bucket(Bucket=BUCKET)


@pytest.fixture(scope="module")
def mlflow(bucket: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    storage = bucket.meta.client.meta.endpoint_url
    with Postgresql() as database:
        server = Mlflow(tmp_path_factory.mktemp("home"), database, storage)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="module")
def champion(mlflow: Mlflow, mlflow_workspace_patch: pytest.MonkeyPatch) -> model_versions.Version:
    """Promote a champion in a run, as the user of runs."""
    with mlflow_workspace_patch.context() as patch:
        mlflow.log_in(patch, "training")
        assert boto3.session.Session().get_credentials() is None
        return Pipeline(patch).promote()


def test_requests_without_a_valid_password_are_rejected(mlflow: Mlflow) -> None:
    statuses = {user: mlflow.request(user) for user in mlflow.passwords}
    assert statuses == dict.fromkeys(mlflow.passwords, 200)
    assert [
        mlflow.request(None),
        mlflow.request("admin", "password1234"),
        mlflow.request("nobody", "password1234"),
    ] == [401] * 3
    paths = ["", "graphql", "metrics", "signup", "v1/traces", "get-artifact", "api/2.0/mlflow-artifacts/artifacts"]
    statuses = {path: requests.get(f"{mlflow.url}/{path}", timeout=TIMEOUT).status_code for path in paths}
    assert statuses == dict.fromkeys(paths, 401)


def test_only_its_own_host_names_and_origins_are_accepted(mlflow: Mlflow) -> None:
    allowed = {"mlflow", "mlflow:7860", "localhost:5000", "127.0.0.1:7860", SPACE}
    assert {host: mlflow.request(Host=host) for host in allowed} == dict.fromkeys(allowed, 200)
    others = {"evil.example", "mlflow.evil.example", "10.0.0.1", "192.168.0.1:7860"}
    assert {host: mlflow.request(Host=host) for host in others} == dict.fromkeys(others, 403)
    origins = {f"https://{SPACE}": 200, "http://localhost:7860": 200, "https://evil.example": 403}
    assert {origin: mlflow.request(Origin=origin) for origin in origins} == origins


def test_a_run_without_aws_credentials_stores_its_model_in_the_bucket(
    mlflow: Mlflow, bucket: Any, champion: model_versions.Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.log_in(monkeypatch, "training")
    client = connection.open_client()
    run = client.get_run(champion.run_id)
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    client.log_text(champion.run_id, "a note", "note.txt")
    bodies = {item.key: item.get()["Body"].read() for item in bucket.objects.all()}
    assert bodies[f"{FOLDER}/{run.info.experiment_id}/{champion.run_id}/artifacts/note.txt"] == b"a note"
    assert any(key.endswith("/MLmodel") for key in bodies)
    assert all(key.startswith(f"{FOLDER}/") for key in bodies)


def test_a_reader_can_load_the_champion_and_change_nothing(
    mlflow: Mlflow, champion: model_versions.Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.log_in(monkeypatch, "serving")
    client = connection.open_client()
    assert model_versions.by_alias(client, "toy", model_versions.CHAMPION) == champion
    assert hasattr(load_estimator(champion.uri), "predict")
    for change in (
        lambda: client.set_registered_model_alias("toy", model_versions.CHAMPION, "1"),
        lambda: client.create_model_version("toy", "models:/toy/1", champion.run_id),
        lambda: client.delete_model_version("toy", champion.number),
        lambda: client.set_tag(champion.run_id, "a", "b"),
        lambda: client.log_text(champion.run_id, "mine", "model.txt"),
    ):
        with pytest.raises((MlflowException, requests.HTTPError), match="Permission denied"):
            change()


def test_only_the_admin_can_create_users(mlflow: Mlflow) -> None:
    def create_user(user: str) -> int:
        auth = (user, mlflow.passwords[user])
        body = {"username": f"by-{user}", "password": secrets.token_hex(12)}
        return requests.post(
            f"{mlflow.url}/api/2.0/mlflow/users/create", json=body, auth=auth, timeout=TIMEOUT
        ).status_code

    assert {user: create_user(user) for user in mlflow.passwords} == {"admin": 200, "training": 403, "serving": 403}


def test_secrets_are_in_no_log_no_command_line_and_no_file_that_others_can_read(mlflow: Mlflow) -> None:
    def secrets_in(text: str) -> list[int]:
        return [number for number, secret in enumerate(mlflow.secrets) if secret in text]

    assert secrets_in(mlflow.log.read_text()) == []
    assert [command for command in mlflow.command_lines if secrets_in(command)] == []
    assert any("mlflow server --app-name basic-auth" in command for command in mlflow.command_lines)
    assert mlflow.config.stat().st_mode & 0o777 == 0o600
    passwords = {*mlflow.passwords.values()}
    assert [process.pid for process in mlflow.processes() if {*process.environ().values()} & passwords] == []
    assert not [user for user, password in mlflow.passwords.items() if password in mlflow.config.read_text()]


def test_it_stops_on_sigterm_and_continues_with_a_changed_password(
    mlflow: Mlflow, champion: model_versions.Version, monkeypatch: pytest.MonkeyPatch, forked_python: ForkedPython
) -> None:
    assert mlflow.stop() == 0
    old, new = mlflow.passwords["admin"], secrets.token_hex(12)
    mlflow.environment["MLFLOW_AUTH_ADMIN_PASSWORD"] = mlflow.passwords["admin"] = new
    mlflow.secrets.append(new)
    mlflow.start(forked_python.python)
    assert [mlflow.request("admin", old), mlflow.request("admin"), mlflow.request("training")] == [401, 200, 200]
    mlflow.log_in(monkeypatch, "serving")
    assert model_versions.by_alias(connection.open_client(), "toy", model_versions.CHAMPION) == champion
    assert hasattr(load_estimator(champion.uri), "predict")


def test_a_database_that_rejects_the_password_is_reported_in_one_line(
    mlflow: Mlflow, tmp_path: Path, forked_python: ForkedPython
) -> None:
    wrong = mlflow.environment["MLFLOW_BACKEND_STORE_URI"].replace("postgres:", "postgres:not-", 1)
    process = subprocess.run(
        [forked_python.python, IMAGE / "serve.py"],
        env={**mlflow.environment, "HOME": str(tmp_path), "MLFLOW_BACKEND_STORE_URI": wrong},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    (message,) = process.stderr.splitlines()
    assert message.startswith("mlflow: the database of MLFLOW_BACKEND_STORE_URI cannot be used: ")
    assert "password authentication failed" in message
    assert not [secret for secret in mlflow.secrets if secret in message]
