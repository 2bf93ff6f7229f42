"""Airflow's image without building it: its Dockerfile, and its entry point with stubs of Airflow's components."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import ROOT, TIMEOUT, wait_until
from dockerfile import Stage, all_of, copied_files, environment, stages
from http_stub import http_stub
from requirements_lock import pins

IMAGE = ROOT / "jenkins" / "airflow"
LOCK = IMAGE / "requirements.lock"
BUILD, FINAL = stages(IMAGE / "Dockerfile")
README = (IMAGE / "README.md").read_text()

CONNECTION = {
    "conn_type": "jenkins",
    "host": "j.example",
    "port": 443,
    "login": "pinger",
    "password": "pinger-password",
}
SETTINGS = {"AIRFLOW_ADMIN_PASSWORD": "admin-password-0", "AIRFLOW_CONN_JENKINS_DEFAULT": json.dumps(CONNECTION)}
COMPONENTS = ("db", "scheduler", "dag-processor", "api-server")
AIRFLOW = """
import os, pathlib, sys, time
pathlib.Path("new", sys.argv[1]).write_text(repr(dict(os.environ)))
os.replace(f"new/{sys.argv[1]}", sys.argv[1])
if sys.argv[1] != "db":
    while not pathlib.Path(f"{sys.argv[1]}.ends").exists():
        time.sleep(0.02)
"""


def instruction(word: str) -> str:
    """Return the arguments of an instruction that the final stage has once."""
    (rest,) = all_of(FINAL, word)
    return rest


class EntryPoint:
    """The entry point with stubs of Airflow's components, which record their environment and wait."""

    def __init__(self, home: Path, **changes: str | None) -> None:
        (home / "airflow").mkdir()
        (home / "new").mkdir()
        (home / "airflow" / "__main__.py").write_text(AIRFLOW)
        self.home, self.log = home, home / "log"
        settings = {name: value for name, value in {**SETTINGS, **changes}.items() if value is not None}
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "AIRFLOW_HOME": str(home / "files"), **settings}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, IMAGE / "serve.py"], env=environment, cwd=home, stdout=log, stderr=log
            )

    def components(self) -> list[psutil.Process]:
        """Wait until all components run; return their processes."""
        wait_until(
            lambda: all((self.home / name).exists() for name in COMPONENTS), "all components of Airflow have started"
        )
        return psutil.Process(self.process.pid).children(recursive=True)

    def component_environments(self) -> str:
        return "".join((self.home / name).read_text() for name in COMPONENTS)

    def error(self) -> str:
        """Return the error with which it exits."""
        assert self.process.wait(60) == 1
        (line,) = self.log.read_text().splitlines()
        assert line.startswith("airflow: ")
        assert "-password" not in line
        return line


class TestLock:
    def test_the_lock_has_airflow_3_with_the_requirements(self) -> None:
        requirements = [
            Requirement(line) for line in re.sub(r"#.*", "", (IMAGE / "requirements.in").read_text()).split()
        ]
        versions = dict([*pins(LOCK)])
        assert {canonicalize_name(requirement.name) for requirement in requirements} <= versions.keys()
        assert versions["apache-airflow"].startswith("==3.3.")

    def test_every_pin_has_a_hash(self) -> None:
        assert all(pins(LOCK).values())

    def test_the_first_line_is_the_command_that_compiles_it(self) -> None:
        first_line = LOCK.read_text().splitlines()[0]
        assert re.fullmatch(r"# Made by: .* jenkins/airflow/requirements\.in -o \S+; .*", first_line)


class TestDockerfile:
    def test_both_stages_have_the_base_image_of_the_serving_image(self) -> None:
        other = {stage[0].rest.split()[0] for stage in stages(ROOT / "jenkins" / "serving.Dockerfile")}
        assert {stage[0].rest.split()[0] for stage in (BUILD, FINAL)} == other

    def test_packages_are_installed_with_hashes_as_wheels_except_one(self) -> None:
        (install,) = all_of(BUILD, "RUN")
        assert {"--require-hashes", "--only-binary=:all:", "/requirements.lock"} <= set(install.split())
        assert re.findall(r"--no-binary=(\S+)", install) == ["multi-key-dict"]

    def test_only_files_of_this_folder_are_copied(self) -> None:
        assert copied_files(BUILD) == [("requirements.lock", "/requirements.lock")]
        assert copied_files(FINAL) == [("serve.py", "/app/serve.py"), ("dags", "/app/dags")]
        assert all((IMAGE / source).exists() for source, _ in copied_files(BUILD) + copied_files(FINAL))

    @pytest.mark.parametrize("stage", [BUILD, FINAL], ids=["build", "final"])
    def test_no_layer_has_a_secret(self, stage: Stage) -> None:
        variables = [*environment(stage), *all_of(stage, "ARG")]
        assert not [name for name in variables if re.search("TOKEN|SECRET|PASS|KEY|CREDENTIAL|CONN", name.upper())]
        assert not re.search(r"\w+://\S+@", (IMAGE / "Dockerfile").read_text())

    def test_the_dags_do_not_import_the_framework(self) -> None:
        assert not re.search(r"^\s*(from|import) continuous_training", "".join(_dags()), re.MULTILINE)


class TestSpace:
    def test_the_port_is_that_of_the_readme_for_hugging_face(self) -> None:
        front_matter = yaml.safe_load(README.split("---\n")[1])
        assert front_matter["sdk"] == "docker"
        assert front_matter["app_port"] == int(instruction("EXPOSE")) == int(environment(FINAL)["AIRFLOW__API__PORT"])

    def test_the_user_is_that_of_hugging_face_with_a_home(self) -> None:
        assert instruction("USER") == "1000:1000"
        assert "useradd --uid 1000 --user-group --create-home" in instruction("RUN")
        assert environment(FINAL)["HOME"] == instruction("WORKDIR") == "/home/airflow"

    def test_the_dags_are_in_airflows_folder_and_not_paused(self) -> None:
        variables = environment(FINAL)
        assert variables["AIRFLOW__CORE__DAGS_FOLDER"] == dict(copied_files(FINAL))["dags"]
        assert variables["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == "False"

    @pytest.mark.parametrize("name", [*SETTINGS, "CT_CHECKOUT", "CT_SOURCE"])
    def test_the_readme_documents_every_setting(self, name: str) -> None:
        assert f"`{name}`" in README


class TestEntryPoint:
    def test_the_entry_point_gets_signals_without_a_shell(self) -> None:
        assert json.loads(instruction("ENTRYPOINT")) == ["python", dict(copied_files(FINAL))["serve.py"]]

    @pytest.mark.parametrize("unhealthy", ["metadatabase", "scheduler", "dag_processor", None])
    def test_the_container_is_healthy_if_all_components_are(self, unhealthy: str | None) -> None:
        response = {name: {"status": "healthy"} for name in ("metadatabase", "scheduler", "dag_processor")}
        response |= {unhealthy: {"status": "unhealthy"}} if unhealthy else {}
        response["triggerer"] = {"status": None}
        command = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
        with http_stub(
            lambda request: (200 if request.path.endswith("/health") else 404, json.dumps(response))
        ) as address:
            variables = {"PATH": os.environ["PATH"], "AIRFLOW__API__PORT": address.rpartition(":")[2]}
            process = subprocess.run([sys.executable, *command[1:]], env=variables, timeout=TIMEOUT, check=False)
        assert process.returncode == bool(unhealthy)

    def test_all_components_end_if_one_exits(self, tmp_path: Path) -> None:
        entry_point = EntryPoint(tmp_path)
        components = entry_point.components()
        (tmp_path / "scheduler.ends").touch()
        assert entry_point.process.wait(60) == 1
        assert entry_point.log.read_text() == "airflow: scheduler has exited\n"
        assert (len(components), psutil.wait_procs(components, 60)[1]) == (3, [])

    def test_sigterm_stops_all_components(self, tmp_path: Path) -> None:
        entry_point = EntryPoint(tmp_path)
        components = entry_point.components()
        entry_point.process.send_signal(signal.SIGTERM)
        assert entry_point.process.wait(60) == 0
        assert (len(components), psutil.wait_procs(components, 60)[1]) == (3, [])

    def test_the_admins_password_is_only_in_a_file_that_only_airflow_can_read(self, tmp_path: Path) -> None:
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "passwords.json").write_text("an old file that others can read")
        entry_point = EntryPoint(tmp_path)
        entry_point.components()
        entry_point.process.terminate()
        entry_point.process.wait(60)
        file = tmp_path / "files" / "passwords.json"
        assert json.loads(file.read_text()) == {"admin": SETTINGS["AIRFLOW_ADMIN_PASSWORD"]}
        assert file.stat().st_mode & 0o777 == 0o600
        assert str(file) in entry_point.component_environments()
        assert (
            SETTINGS["AIRFLOW_ADMIN_PASSWORD"] not in entry_point.component_environments() + entry_point.log.read_text()
        )

    def test_a_space_links_to_its_host_name_and_its_tasks_call_localhost(self, tmp_path: Path) -> None:
        entry_point = EntryPoint(tmp_path, SPACE_HOST="team-airflow.hf.space", AIRFLOW__API__PORT="7860")
        entry_point.components()
        entry_point.process.terminate()
        entry_point.process.wait(60)
        assert "'AIRFLOW__API__BASE_URL': 'https://team-airflow.hf.space'" in entry_point.component_environments()
        assert (
            "'AIRFLOW__CORE__EXECUTION_API_SERVER_URL': 'http://127.0.0.1:7860/execution/'"
            in entry_point.component_environments()
        )


class TestErrors:
    @pytest.mark.parametrize("empty", [None, ""], ids=["not set", "empty"])
    @pytest.mark.parametrize("name", SETTINGS)
    def test_a_missing_setting_is_reported(self, tmp_path: Path, name: str, empty: str | None) -> None:
        assert EntryPoint(tmp_path, **{name: empty}).error().startswith(f"airflow: set {name} (")

    def test_a_short_password_is_rejected(self, tmp_path: Path) -> None:
        message = EntryPoint(tmp_path, AIRFLOW_ADMIN_PASSWORD="elevenchars").error()
        assert message == "airflow: set AIRFLOW_ADMIN_PASSWORD to 12 characters or more"

    @pytest.mark.parametrize(
        "connection",
        ["jenkins://pinger:pinger-password@j.example", "[]", json.dumps({**CONNECTION, "port": None}), json.dumps({})],
        ids=["a URL", "a list", "without a port", "nothing"],
    )
    def test_an_incomplete_connection_is_rejected(self, tmp_path: Path, connection: str) -> None:
        message = EntryPoint(tmp_path, AIRFLOW_CONN_JENKINS_DEFAULT=connection).error()
        assert message.startswith("airflow: AIRFLOW_CONN_JENKINS_DEFAULT is not a complete connection: write it as {")


def _dags() -> list[str]:
    return [path.read_text() for path in (IMAGE / "dags").glob("*.py")]
