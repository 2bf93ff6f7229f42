"""The MLflow image's entry point, as it runs there: on a PostgreSQL and an S3 of this machine."""

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
from conftest import ROOT
from continuous_training.registry import connection, model_versions
from continuous_training.versions import loading
from dockerfile import environment, stages
from pipeline import Pipeline
from postgresql import Postgresql, needs_postgresql
from server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.integration(seconds=40), needs_postgresql]

IMAGE = ROOT / "jenkins" / "mlflow"
PATIENCE = 300  # seconds: a first start makes the database, and other tests run meanwhile
BUCKET, FOLDER = "artifacts", "of/mlflow"
SPACE = "team-mlflow.hf.space"
OF_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")


class Mlflow:
    """The entry point in a home of its own; `secrets` is what nobody may see, `seen` every command line it had."""

    def __init__(self, home: Path, database: Postgresql, storage: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.config, self.log = home / ".mlflow" / "basic_auth.ini", home / "log"
        self.passwords = {role: secrets.token_hex(12) + "%@:/ " for role in ("admin", "training", "serving")}
        self.secrets = [secrets.token_hex(16) for _ in range(2)]
        self.seen: set[str] = set()
        key, access = self.secrets
        self.secrets += [*self.passwords.values(), database.password]
        self.given = {
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

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, IMAGE / "serve.py"], env=self.given, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        patience = time.monotonic() + PATIENCE
        while time.monotonic() < patience and self.process.poll() is None:
            self.seen.update(" ".join(found.info["cmdline"] or ()) for found in psutil.process_iter(["cmdline"]))
            try:
                if requests.get(f"{self.url}/health", timeout=5).ok:
                    return
            except requests.RequestException:
                time.sleep(0.1)
        raise RuntimeError(f"it does not start: {self.log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> int:
        """End it as Docker does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def processes(self) -> list[psutil.Process]:
        found = psutil.Process(self.process.pid)
        return [found, *found.children(recursive=True)]

    def kill(self) -> None:
        """Leave nothing of it behind, whatever became of the test."""
        if self.process.poll() is None:
            for process in self.processes():
                process.kill()
        self.process.wait()

    def ask(self, who: str | None = "admin", password: str | None = None, **headers: str) -> int:
        """Return the status of a question that everybody may ask who may log in."""
        auth = (who, password or self.passwords[who]) if who else None
        path = "api/2.0/mlflow/experiments/search"
        body = {"max_results": 1}
        return requests.post(f"{self.url}/{path}", json=body, auth=auth, headers=headers, timeout=30).status_code

    def log_in(self, patch: pytest.MonkeyPatch, who: str) -> None:
        """Become a user of it who has nothing else: no key of AWS's, and none to be found."""
        for name in OF_AWS:
            patch.delenv(name, raising=False)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            patch.setenv(name, os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("MLFLOW_TRACKING_URI", self.url)
        patch.setenv("MLFLOW_TRACKING_USERNAME", who)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", self.passwords[who])


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
def champion(mlflow: Mlflow, tracked_module: pytest.MonkeyPatch) -> model_versions.Version:
    """Let a run of the project make a champion, as the user that is meant for runs."""
    with tracked_module.context() as patch:
        mlflow.log_in(patch, "training")
        assert boto3.session.Session().get_credentials() is None
        return Pipeline(patch).promote()


def test_nobody_gets_in_without_the_right_password(mlflow: Mlflow) -> None:
    right = {who: mlflow.ask(who) for who in mlflow.passwords}
    assert right == dict.fromkeys(mlflow.passwords, 200)
    assert [mlflow.ask(None), mlflow.ask("admin", "password1234"), mlflow.ask("nobody", "password1234")] == [401] * 3
    closed = ["", "graphql", "metrics", "signup", "v1/traces", "get-artifact", "api/2.0/mlflow-artifacts/artifacts"]
    found = {path: requests.get(f"{mlflow.url}/{path}", timeout=30).status_code for path in closed}
    assert found == dict.fromkeys(closed, 401)


def test_it_answers_to_its_own_names_alone_and_to_its_own_pages(mlflow: Mlflow) -> None:
    own = {"mlflow", "mlflow:7860", "localhost:5000", "127.0.0.1:7860", SPACE}
    assert {host: mlflow.ask(Host=host) for host in own} == dict.fromkeys(own, 200)
    others = {"evil.example", "mlflow.evil.example", "10.0.0.1", "192.168.0.1:7860"}
    assert {host: mlflow.ask(Host=host) for host in others} == dict.fromkeys(others, 403)
    pages = {f"https://{SPACE}": 200, "http://localhost:7860": 200, "https://evil.example": 403}
    assert {page: mlflow.ask(Origin=page) for page in pages} == pages


def test_a_run_without_keys_of_its_own_keeps_its_model_in_the_bucket(
    mlflow: Mlflow, bucket: Any, champion: model_versions.Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.log_in(monkeypatch, "training")
    client = connection.open_client()
    run = client.get_run(champion.run_id)
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    client.log_text(champion.run_id, "kept", "note.txt")
    bodies = {found.key: found.get()["Body"].read() for found in bucket.objects.all()}
    assert bodies[f"{FOLDER}/{run.info.experiment_id}/{champion.run_id}/artifacts/note.txt"] == b"kept"
    assert any(key.endswith("/MLmodel") for key in bodies)
    assert all(key.startswith(f"{FOLDER}/") for key in bodies)


def test_a_reader_loads_the_champion_and_can_change_nothing_of_it(
    mlflow: Mlflow, champion: model_versions.Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.log_in(monkeypatch, "serving")
    client = connection.open_client()
    assert model_versions.by_alias(client, "toy", model_versions.CHAMPION) == champion
    assert hasattr(loading.load(champion.uri, ("numpy.dtype",)), "predict")
    for change in (
        lambda: client.set_registered_model_alias("toy", model_versions.CHAMPION, "1"),
        lambda: client.create_model_version("toy", "models:/toy/1", champion.run_id),
        lambda: client.delete_model_version("toy", champion.number),
        lambda: client.set_tag(champion.run_id, "a", "b"),
        lambda: client.log_text(champion.run_id, "mine", "model.txt"),
    ):
        with pytest.raises((MlflowException, requests.HTTPError), match="Permission denied"):
            change()


def test_only_the_admin_makes_users(mlflow: Mlflow) -> None:
    def made_by(who: str) -> int:
        auth = (who, mlflow.passwords[who])
        body = {"username": f"by-{who}", "password": secrets.token_hex(12)}
        return requests.post(f"{mlflow.url}/api/2.0/mlflow/users/create", json=body, auth=auth, timeout=30).status_code

    assert {who: made_by(who) for who in mlflow.passwords} == {"admin": 200, "training": 403, "serving": 403}


def test_what_is_secret_is_neither_printed_nor_on_a_command_line_nor_in_a_file_for_others(mlflow: Mlflow) -> None:
    def told(text: str) -> list[int]:
        return [number for number, secret in enumerate(mlflow.secrets) if secret in text]

    assert told(mlflow.log.read_text()) == []
    assert [command for command in mlflow.seen if told(command)] == []
    assert any("mlflow server --app-name basic-auth" in command for command in mlflow.seen)
    assert mlflow.config.stat().st_mode & 0o777 == 0o600
    of_users = [found.pid for found in mlflow.processes() if {*found.environ().values()} & {*mlflow.passwords.values()}]
    assert of_users == []
    assert not [who for who, password in mlflow.passwords.items() if password in mlflow.config.read_text()]


def test_it_ends_when_it_is_told_to_and_goes_on_where_it_was(
    mlflow: Mlflow, champion: model_versions.Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mlflow.stop() == 0
    old, new = mlflow.passwords["admin"], secrets.token_hex(12)
    mlflow.given["MLFLOW_AUTH_ADMIN_PASSWORD"] = mlflow.passwords["admin"] = new
    mlflow.secrets.append(new)
    mlflow.start()
    assert [mlflow.ask("admin", old), mlflow.ask("admin"), mlflow.ask("training")] == [401, 200, 200]
    mlflow.log_in(monkeypatch, "serving")
    assert model_versions.by_alias(connection.open_client(), "toy", model_versions.CHAMPION) == champion
    assert hasattr(loading.load(champion.uri, ("numpy.dtype",)), "predict")


def test_a_database_that_lets_nobody_in_is_told_in_one_line(mlflow: Mlflow, tmp_path: Path) -> None:
    wrong = mlflow.given["MLFLOW_BACKEND_STORE_URI"].replace("postgres:", "postgres:not-", 1)
    done = subprocess.run(
        [sys.executable, IMAGE / "serve.py"],
        env={**mlflow.given, "HOME": str(tmp_path), "MLFLOW_BACKEND_STORE_URI": wrong},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (message,) = done.stderr.splitlines()
    assert message.startswith("mlflow: the database of MLFLOW_BACKEND_STORE_URI cannot be used: ")
    assert "password authentication failed" in message
    assert not [secret for secret in mlflow.secrets if secret in message]
