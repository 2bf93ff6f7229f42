"""MLflow's image, as far as it can be judged without building it; tests/integration/test_mlflow_server.py runs it."""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import ROOT
from dockerfile import Stage, all_of, copied, environment, health, stages
from lock import pins

IMAGE = ROOT / "jenkins" / "mlflow"
LOCK = IMAGE / "requirements.lock"
BUILD, FINAL = stages(IMAGE / "Dockerfile")
README = (IMAGE / "README.md").read_text()

GIVEN = {
    "MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:of-the-database@db.example:5432/mlflow",
    "MLFLOW_ARTIFACTS_DESTINATION": "s3://bucket/folder",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "of-the-admin-0",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-the-pages",
}


def the(word: str) -> str:
    """Return the one such instruction of the final stage."""
    (rest,) = all_of(FINAL, word)
    return rest


@pytest.fixture(scope="module")
def entry() -> ModuleType:
    """Import the entry point, which belongs to no package."""
    found = importlib.util.spec_from_file_location("entry", IMAGE / "serve.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def refused(home: Path, **changed: str | None) -> str:
    """Return why the entry point does not start; the settings that are None are not set."""
    given = {name: value for name, value in {**GIVEN, **changed}.items() if value is not None}
    done = subprocess.run(
        [sys.executable, IMAGE / "serve.py"],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **given},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("mlflow: ")
    assert not [value for name, value in given.items() if "PASS" in name and value and value in line]
    assert "of-the-database" not in line
    return line


class TestLock:
    def test_every_pin_is_the_one_that_the_pipeline_tests_with(self) -> None:
        tested = pins(ROOT / "requirements.lock")
        assert {pin: tested.get(pin) for pin in pins(LOCK)} == pins(LOCK)

    def test_it_has_all_that_the_server_needs(self) -> None:
        listed = re.sub(r"#.*", "", (IMAGE / "requirements.in").read_text()).split()
        locked = {name for name, _ in pins(LOCK)}
        assert {canonicalize_name(Requirement(each).name) for each in listed} == {"boto3", "mlflow", "psycopg"}
        assert {"boto3", "mlflow", "flask-wtf", "psycopg", "psycopg-binary"} <= locked

    def test_every_pin_has_a_hash(self) -> None:
        assert all(pins(LOCK).values())

    def test_its_first_line_says_how_it_is_made(self) -> None:
        made = LOCK.read_text().splitlines()[0]
        assert re.fullmatch(r"# Made by: .* -c requirements\.lock jenkins/mlflow/requirements\.in -o \S+; .*", made)


class TestWhatGoesIn:
    def test_the_python_is_the_slim_one_of_the_other_image_in_both_stages(self) -> None:
        other = {stage[0].rest.split()[0] for stage in stages(ROOT / "jenkins" / "serving.Dockerfile")}
        assert {stage[0].rest.split()[0] for stage in (BUILD, FINAL)} == other == {"python:3.11-slim-bookworm"}

    def test_every_package_comes_as_a_wheel_and_by_its_hash(self) -> None:
        (installing,) = all_of(BUILD, "RUN")
        assert {"--require-hashes", "--only-binary=:all:", "/requirements.lock"} <= set(installing.split())

    def test_it_is_made_of_this_folder_alone(self) -> None:
        assert copied(BUILD) == [("requirements.lock", "/requirements.lock")]
        assert copied(FINAL) == [("serve.py", "/app/serve.py")]
        assert all((IMAGE / source).is_file() for source, _ in copied(BUILD) + copied(FINAL))

    @pytest.mark.parametrize("stage", [BUILD, FINAL], ids=["build", "final"])
    def test_no_layer_is_given_a_secret(self, stage: Stage) -> None:
        named = [*environment(stage), *all_of(stage, "ARG")]
        assert not [name for name in named if re.search("TOKEN|SECRET|PASS|KEY|CREDENTIAL|_URI|_URL", name.upper())]
        assert not re.search(r"\w+://\S+@", (IMAGE / "Dockerfile").read_text())


class TestSpace:
    def test_its_port_is_the_one_that_hugging_face_is_told_of(self, entry: ModuleType) -> None:
        front = yaml.safe_load(README.split("---\n")[1])
        assert front["sdk"] == "docker"
        assert front["app_port"] == int(the("EXPOSE")) == entry.read_port({})

    def test_it_runs_as_the_user_that_hugging_face_runs_it_as_in_a_home_of_his_own(self) -> None:
        assert the("USER") == "1000:1000"
        assert "useradd --uid 1000 --user-group --create-home" in the("RUN")
        assert environment(FINAL)["HOME"] == the("WORKDIR") == "/home/mlflow"

    def test_the_readme_tells_every_setting(self, entry: ModuleType) -> None:
        roles = [f"MLFLOW_AUTH_{role}_{what}" for role in entry.ROLES for what in ("USERNAME", "PASSWORD")]
        settings = {*entry.REQUIRED, *roles, entry.HOSTS, entry.ORIGINS, "PORT", "MLFLOW_WORKERS"}
        assert not [name for name in settings if f"`{name}`" not in README]


class TestHowItRuns:
    def test_a_signal_reaches_it_and_not_a_shell(self) -> None:
        assert json.loads(the("ENTRYPOINT")) == ["python", dict(copied(FINAL))["serve.py"]]

    def test_it_writes_its_log_at_once(self) -> None:
        assert environment(FINAL)["PYTHONUNBUFFERED"] == "1"

    @pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
    def test_it_is_healthy_while_health_says_so_at_the_port_that_it_was_given(self, status: int, code: int) -> None:
        command = json.loads(the("HEALTHCHECK").partition("CMD ")[2])
        with health(status) as port:
            given = {"PATH": os.environ["PATH"], "PORT": str(port)}
            found = subprocess.run([sys.executable, *command[1:]], env=given, timeout=60, check=False)
        assert found.returncode == code


class TestRefusals:
    @pytest.mark.parametrize("empty", [None, ""], ids=["not set", "empty"])
    @pytest.mark.parametrize("name", GIVEN)
    def test_what_is_missing_is_named(self, tmp_path: Path, name: str, empty: str | None) -> None:
        assert refused(tmp_path, **{name: empty}).startswith(f"mlflow: set {name} (")

    def test_all_that_is_missing_is_named_at_once(self, tmp_path: Path) -> None:
        message = refused(tmp_path, **dict.fromkeys(GIVEN))
        assert all(name in message for name in GIVEN)

    @pytest.mark.parametrize(
        "address", ["sqlite:///mlflow.db", "mysql://u:p@h/d", "/data", "postgresql://", "of", "postgresql://u:p@h:x/d"]
    )
    def test_rows_are_kept_in_postgresql_or_nowhere(self, tmp_path: Path, address: str) -> None:
        message = refused(tmp_path, MLFLOW_BACKEND_STORE_URI=address)
        assert message.startswith("mlflow: MLFLOW_BACKEND_STORE_URI is not a PostgreSQL URL")

    @pytest.mark.parametrize("address", ["/data", "file:///data", "./mlartifacts"])
    def test_artifacts_are_kept_on_s3_or_nowhere(self, tmp_path: Path, address: str) -> None:
        message = refused(tmp_path, MLFLOW_ARTIFACTS_DESTINATION=address)
        assert message.startswith("mlflow: MLFLOW_ARTIFACTS_DESTINATION is not an S3 URL")

    @pytest.mark.parametrize("password", ["elevenchars", "password1234", "zwölfzeichenä"])
    def test_a_password_that_would_not_do_is_refused(self, tmp_path: Path, password: str) -> None:
        assert "MLFLOW_AUTH_ADMIN_PASSWORD" in refused(tmp_path, MLFLOW_AUTH_ADMIN_PASSWORD=password)

    @pytest.mark.parametrize(
        ("name", "password", "what"),
        [
            ("training", None, "set MLFLOW_AUTH_USER_PASSWORD to 12 characters or more"),
            (None, "of-the-training", "set MLFLOW_AUTH_USER_USERNAME to a name without a colon"),
            ("a:b", "of-the-training", "set MLFLOW_AUTH_USER_USERNAME to a name without a colon"),
            ("admin", "of-the-training", "MLFLOW_AUTH_USER_USERNAME is the name of another user"),
        ],
    )
    def test_a_user_is_whole_and_himself(
        self, tmp_path: Path, name: str | None, password: str | None, what: str
    ) -> None:
        assert what in refused(tmp_path, MLFLOW_AUTH_USER_USERNAME=name, MLFLOW_AUTH_USER_PASSWORD=password)

    @pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
    def test_a_port_is_a_port(self, tmp_path: Path, port: str) -> None:
        assert refused(tmp_path, PORT=port).startswith(f"mlflow: PORT={port} is not a port")


class TestWhatMlflowIsGiven:
    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
    def test_every_way_to_write_the_address_means_the_driver_that_is_there(
        self, entry: ModuleType, scheme: str
    ) -> None:
        address = "://user:p%40ss@db.example:5432/mlflow?sslmode=require"
        given = {**GIVEN, "MLFLOW_BACKEND_STORE_URI": scheme + address}
        assert entry.database_url(given) == "postgresql+psycopg" + address

    def test_the_servers_processes_do_not_inherit_what_the_users_know(self, entry: ModuleType) -> None:
        given = {**GIVEN, "MLFLOW_AUTH_USER_USERNAME": "training", "MLFLOW_AUTH_USER_PASSWORD": "of-the-training"}
        left = entry.server_environment(given, "address")
        assert not {"of-the-admin-0", "of-the-training"} & {*left.values()}

    def test_a_space_answers_to_its_own_name_and_its_own_pages_too(self, entry: ModuleType) -> None:
        left = entry.server_environment({**GIVEN, "SPACE_HOST": "team-mlflow.hf.space"}, "address")
        assert "team-mlflow.hf.space" in left["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
        assert left["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == "https://team-mlflow.hf.space"

    def test_elsewhere_no_page_of_another_server_may_write(self, entry: ModuleType) -> None:
        assert "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS" not in entry.server_environment(GIVEN, "address")

    def test_other_names_can_be_set(self, entry: ModuleType) -> None:
        own = {
            "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow.example.org",
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://mlflow.example.org",
        }
        left = entry.server_environment({**GIVEN, **own, "SPACE_HOST": "team-mlflow.hf.space"}, "address")
        assert own.items() <= left.items()

    def test_its_file_is_for_its_user_alone_and_whoever_logs_in_may_read(
        self, entry: ModuleType, tmp_path: Path
    ) -> None:
        path = tmp_path / "of" / "basic_auth.ini"
        path.parent.mkdir()
        path.write_text("of an older start, for everybody")
        path.chmod(0o644)
        (admin,) = entry.read_users({**GIVEN, "MLFLOW_AUTH_ADMIN_USERNAME": "ad%min"})
        entry.write_config(path, "postgresql+psycopg://u:p%40@h/d", admin)
        assert path.stat().st_mode & 0o777 == 0o600
        config = configparser.ConfigParser()
        config.read(path)
        told = dict(config["mlflow"])
        assert told.pop("default_permission") == "READ"
        assert (told["database_uri"], told["admin_username"]) == ("postgresql+psycopg://u:p%40@h/d", "ad%min")
        assert admin.password not in path.read_text()
