"""MLflow's image without building it: its Dockerfile, and the checks of its entry point."""

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

from conftest import ROOT, TIMEOUT
from dockerfile import Stage, all_of, copied_files, environment, health, stages
from requirements_lock import pins

IMAGE = ROOT / "jenkins" / "mlflow"
LOCK = IMAGE / "requirements.lock"
BUILD, FINAL = stages(IMAGE / "Dockerfile")
README = (IMAGE / "README.md").read_text()

SETTINGS = {
    "MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:database-password@db.example:5432/mlflow",
    "MLFLOW_ARTIFACTS_DESTINATION": "s3://bucket/folder",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "admin-password-0",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "session-secret-key",
}


def instruction(word: str) -> str:
    """Return the arguments of an instruction that the final stage has once."""
    (rest,) = all_of(FINAL, word)
    return rest


@pytest.fixture(scope="module")
def serve() -> ModuleType:
    """Import the entry point, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("serve", IMAGE / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def startup_error(home: Path, **changes: str | None) -> str:
    """Return the error with which the entry point exits; settings that are None are not set."""
    settings = {name: value for name, value in {**SETTINGS, **changes}.items() if value is not None}
    process = subprocess.run(
        [sys.executable, IMAGE / "serve.py"],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **settings},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert process.returncode == 1
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith("mlflow: ")
    assert not [value for name, value in settings.items() if "PASS" in name and value and value in line]
    assert "database-password" not in line
    return line


class TestLock:
    def test_every_pin_is_that_of_the_projects_lock(self) -> None:
        project_pins = pins(ROOT / "requirements.lock")
        assert {pin: project_pins.get(pin) for pin in pins(LOCK)} == pins(LOCK)

    def test_the_lock_has_the_requirements_of_the_server(self) -> None:
        requirements = re.sub(r"#.*", "", (IMAGE / "requirements.in").read_text()).split()
        packages = {name for name, _ in pins(LOCK)}
        assert {canonicalize_name(Requirement(line).name) for line in requirements} == {"boto3", "mlflow", "psycopg"}
        assert {"boto3", "mlflow", "flask-wtf", "psycopg", "psycopg-binary"} <= packages

    def test_every_pin_has_a_hash(self) -> None:
        assert all(pins(LOCK).values())

    def test_the_first_line_is_the_command_that_compiles_it(self) -> None:
        first_line = LOCK.read_text().splitlines()[0]
        assert re.fullmatch(
            r"# Made by: .* -c requirements\.lock jenkins/mlflow/requirements\.in -o \S+; .*", first_line
        )


class TestDockerfile:
    def test_both_stages_have_the_base_image_of_the_serving_image(self) -> None:
        other = {stage[0].rest.split()[0] for stage in stages(ROOT / "jenkins" / "serving.Dockerfile")}
        assert {stage[0].rest.split()[0] for stage in (BUILD, FINAL)} == other == {"python:3.11-slim-bookworm"}

    def test_packages_are_installed_as_wheels_with_hashes(self) -> None:
        (install,) = all_of(BUILD, "RUN")
        assert {"--require-hashes", "--only-binary=:all:", "/requirements.lock"} <= set(install.split())

    def test_only_files_of_this_folder_are_copied(self) -> None:
        assert copied_files(BUILD) == [("requirements.lock", "/requirements.lock")]
        assert copied_files(FINAL) == [("serve.py", "/app/serve.py")]
        assert all((IMAGE / source).is_file() for source, _ in copied_files(BUILD) + copied_files(FINAL))

    @pytest.mark.parametrize("stage", [BUILD, FINAL], ids=["build", "final"])
    def test_no_layer_has_a_secret(self, stage: Stage) -> None:
        variables = [*environment(stage), *all_of(stage, "ARG")]
        assert not [name for name in variables if re.search("TOKEN|SECRET|PASS|KEY|CREDENTIAL|_URI|_URL", name.upper())]
        assert not re.search(r"\w+://\S+@", (IMAGE / "Dockerfile").read_text())


class TestSpace:
    def test_the_port_is_that_of_the_readme_for_hugging_face(self, serve: ModuleType) -> None:
        front_matter = yaml.safe_load(README.split("---\n")[1])
        assert front_matter["sdk"] == "docker"
        assert front_matter["app_port"] == int(instruction("EXPOSE")) == serve.read_port({})

    def test_the_user_is_that_of_hugging_face_with_a_home(self) -> None:
        assert instruction("USER") == "1000:1000"
        assert "useradd --uid 1000 --user-group --create-home" in instruction("RUN")
        assert environment(FINAL)["HOME"] == instruction("WORKDIR") == "/home/mlflow"

    def test_the_readme_documents_every_setting(self, serve: ModuleType) -> None:
        roles = [f"MLFLOW_AUTH_{role}_{suffix}" for role in serve.ROLES for suffix in ("USERNAME", "PASSWORD")]
        settings = {*serve.REQUIRED, *roles, serve.HOSTS, serve.ORIGINS, "PORT", "MLFLOW_WORKERS"}
        assert not [name for name in settings if f"`{name}`" not in README]


class TestEntryPoint:
    def test_the_entry_point_gets_signals_without_a_shell(self) -> None:
        assert json.loads(instruction("ENTRYPOINT")) == ["python", dict(copied_files(FINAL))["serve.py"]]

    def test_the_log_is_not_buffered(self) -> None:
        assert environment(FINAL)["PYTHONUNBUFFERED"] == "1"

    @pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
    def test_the_container_is_healthy_if_the_server_is(self, status: int, code: int) -> None:
        command = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
        with health(status) as port:
            variables = {"PATH": os.environ["PATH"], "PORT": str(port)}
            process = subprocess.run([sys.executable, *command[1:]], env=variables, timeout=TIMEOUT, check=False)
        assert process.returncode == code


class TestErrors:
    @pytest.mark.parametrize("empty", [None, ""], ids=["not set", "empty"])
    @pytest.mark.parametrize("name", SETTINGS)
    def test_a_missing_setting_is_reported(self, tmp_path: Path, name: str, empty: str | None) -> None:
        assert startup_error(tmp_path, **{name: empty}).startswith(f"mlflow: set {name} (")

    def test_all_missing_settings_are_reported_in_one_message(self, tmp_path: Path) -> None:
        message = startup_error(tmp_path, **dict.fromkeys(SETTINGS))
        assert all(name in message for name in SETTINGS)

    @pytest.mark.parametrize(
        "address", ["sqlite:///mlflow.db", "mysql://u:p@h/d", "/data", "postgresql://", "x", "postgresql://u:p@h:x/d"]
    )
    def test_only_postgresql_is_accepted_as_backend_store(self, tmp_path: Path, address: str) -> None:
        message = startup_error(tmp_path, MLFLOW_BACKEND_STORE_URI=address)
        assert message.startswith("mlflow: MLFLOW_BACKEND_STORE_URI is not a PostgreSQL URL")

    @pytest.mark.parametrize("address", ["/data", "file:///data", "./mlartifacts"])
    def test_only_s3_is_accepted_for_artifacts(self, tmp_path: Path, address: str) -> None:
        message = startup_error(tmp_path, MLFLOW_ARTIFACTS_DESTINATION=address)
        assert message.startswith("mlflow: MLFLOW_ARTIFACTS_DESTINATION is not an S3 URL")

    @pytest.mark.parametrize("password", ["elevenchars", "password1234", "zwölfzeichenä"])
    def test_an_unsuitable_password_is_an_error_at_the_start(self, tmp_path: Path, password: str) -> None:
        assert "MLFLOW_AUTH_ADMIN_PASSWORD" in startup_error(tmp_path, MLFLOW_AUTH_ADMIN_PASSWORD=password)

    @pytest.mark.parametrize(
        ("name", "password", "message"),
        [
            ("training", None, "set MLFLOW_AUTH_USER_PASSWORD to 12 characters or more"),
            (None, "training-password", "set MLFLOW_AUTH_USER_USERNAME to a name without a colon"),
            ("a:b", "training-password", "set MLFLOW_AUTH_USER_USERNAME to a name without a colon"),
            ("admin", "training-password", "MLFLOW_AUTH_USER_USERNAME is the name of another user"),
        ],
    )
    def test_an_incomplete_or_duplicate_user_is_rejected(
        self, tmp_path: Path, name: str | None, password: str | None, message: str
    ) -> None:
        assert message in startup_error(tmp_path, MLFLOW_AUTH_USER_USERNAME=name, MLFLOW_AUTH_USER_PASSWORD=password)

    @pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
    def test_an_invalid_port_is_rejected(self, tmp_path: Path, port: str) -> None:
        assert startup_error(tmp_path, PORT=port).startswith(f"mlflow: PORT={port} is not a port")


class TestSettingsOfMlflow:
    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
    def test_every_postgresql_url_gets_the_installed_driver(self, serve: ModuleType, scheme: str) -> None:
        address = "://user:p%40ss@db.example:5432/mlflow?sslmode=require"
        settings = {**SETTINGS, "MLFLOW_BACKEND_STORE_URI": scheme + address}
        assert serve.database_url(settings) == "postgresql+psycopg" + address

    def test_the_processes_of_the_server_do_not_inherit_passwords(self, serve: ModuleType) -> None:
        settings = {
            **SETTINGS,
            "MLFLOW_AUTH_USER_USERNAME": "training",
            "MLFLOW_AUTH_USER_PASSWORD": "training-password",
        }
        variables = serve.server_environment(settings, "address")
        assert not {"admin-password-0", "training-password"} & {*variables.values()}

    def test_a_space_accepts_its_own_host_name_and_origin(self, serve: ModuleType) -> None:
        variables = serve.server_environment({**SETTINGS, "SPACE_HOST": "team-mlflow.hf.space"}, "address")
        assert "team-mlflow.hf.space" in variables["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
        assert variables["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == "https://team-mlflow.hf.space"

    def test_outside_of_a_space_no_origin_is_allowed(self, serve: ModuleType) -> None:
        assert "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS" not in serve.server_environment(SETTINGS, "address")

    def test_hosts_and_origins_can_be_configured(self, serve: ModuleType) -> None:
        own_settings = {
            "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow.example.org",
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://mlflow.example.org",
        }
        variables = serve.server_environment(
            {**SETTINGS, **own_settings, "SPACE_HOST": "team-mlflow.hf.space"}, "address"
        )
        assert own_settings.items() <= variables.items()

    def test_only_the_user_can_read_the_configuration_and_its_default_permission_is_read(
        self, serve: ModuleType, tmp_path: Path
    ) -> None:
        path = tmp_path / "folder" / "basic_auth.ini"
        path.parent.mkdir()
        path.write_text("an old file that others can read")
        path.chmod(0o644)
        (admin,) = serve.read_users({**SETTINGS, "MLFLOW_AUTH_ADMIN_USERNAME": "ad%min"})
        serve.write_config(path, "postgresql+psycopg://u:p%40@h/d", admin)
        assert path.stat().st_mode & 0o777 == 0o600
        config = configparser.ConfigParser()
        config.read(path)
        settings = dict(config["mlflow"])
        assert settings.pop("default_permission") == "READ"
        assert (settings["database_uri"], settings["admin_username"]) == ("postgresql+psycopg://u:p%40@h/d", "ad%min")
        assert admin.password not in path.read_text()
