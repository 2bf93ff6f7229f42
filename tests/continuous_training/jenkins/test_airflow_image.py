"""Airflow's image, as far as it can be judged without building it; tests/integration/test_airflow_server.py runs it."""

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

from conftest import ROOT, wait_until
from dockerfile import Stage, all_of, copied, environment, stages
from listening import listening
from lock import pins

IMAGE = ROOT / "jenkins" / "airflow"
LOCK = IMAGE / "requirements.lock"
BUILD, FINAL = stages(IMAGE / "Dockerfile")
README = (IMAGE / "README.md").read_text()

WHOLE = {"conn_type": "jenkins", "host": "j.example", "port": 443, "login": "pinger", "password": "of-the-pinger"}
GIVEN = {"AIRFLOW_ADMIN_PASSWORD": "of-the-admin-0", "AIRFLOW_CONN_JENKINS_DEFAULT": json.dumps(WHOLE)}
NAMES = ("db", "scheduler", "dag-processor", "api-server")
AIRFLOW = """
import os, pathlib, sys, time
pathlib.Path("new", sys.argv[1]).write_text(repr(dict(os.environ)))
os.replace(f"new/{sys.argv[1]}", sys.argv[1])
if sys.argv[1] != "db":
    while not pathlib.Path(f"{sys.argv[1]}.ends").exists():
        time.sleep(0.02)
"""


def the(word: str) -> str:
    """Return the one such instruction of the final stage."""
    (rest,) = all_of(FINAL, word)
    return rest


class Entry:
    """The entry point, over programs that stand for Airflow's: they write down what they inherit, and wait."""

    def __init__(self, home: Path, **changed: str | None) -> None:
        (home / "airflow").mkdir()
        (home / "new").mkdir()
        (home / "airflow" / "__main__.py").write_text(AIRFLOW)
        self.home, self.log = home, home / "log"
        given = {name: value for name, value in {**GIVEN, **changed}.items() if value is not None}
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "AIRFLOW_HOME": str(home / "of"), **given}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, IMAGE / "serve.py"], env=environment, cwd=home, stdout=log, stderr=log
            )

    def components(self) -> list[psutil.Process]:
        """Return those that run, when all of them do."""
        wait_until(lambda: all((self.home / name).exists() for name in NAMES), "all of Airflow is started")
        return psutil.Process(self.process.pid).children(recursive=True)

    def inherited(self) -> str:
        return "".join((self.home / name).read_text() for name in NAMES)

    def refused(self) -> str:
        """Return why it does not start."""
        assert self.process.wait(60) == 1
        (line,) = self.log.read_text().splitlines()
        assert line.startswith("airflow: ")
        assert "of-the" not in line
        return line


class TestLock:
    def test_it_has_airflow_3_with_the_providers_that_the_dags_import(self) -> None:
        listed = [Requirement(line) for line in re.sub(r"#.*", "", (IMAGE / "requirements.in").read_text()).split()]
        locked = dict([*pins(LOCK)])
        assert {canonicalize_name(each.name) for each in listed} <= locked.keys()
        assert locked["apache-airflow"].startswith("==3.3.")

    def test_every_pin_has_a_hash(self) -> None:
        assert all(pins(LOCK).values())

    def test_its_first_line_says_how_it_is_made(self) -> None:
        made = LOCK.read_text().splitlines()[0]
        assert re.fullmatch(r"# Made by: .* jenkins/airflow/requirements\.in -o \S+; .*", made)


class TestWhatGoesIn:
    def test_the_python_is_the_slim_one_of_the_other_image_in_both_stages(self) -> None:
        other = {stage[0].rest.split()[0] for stage in stages(ROOT / "jenkins" / "serving.Dockerfile")}
        assert {stage[0].rest.split()[0] for stage in (BUILD, FINAL)} == other

    def test_every_package_comes_by_its_hash_and_as_a_wheel_if_there_is_one(self) -> None:
        (installing,) = all_of(BUILD, "RUN")
        assert {"--require-hashes", "--only-binary=:all:", "/requirements.lock"} <= set(installing.split())
        assert re.findall(r"--no-binary=(\S+)", installing) == ["multi-key-dict"]

    def test_it_is_made_of_this_folder_alone(self) -> None:
        assert copied(BUILD) == [("requirements.lock", "/requirements.lock")]
        assert copied(FINAL) == [("serve.py", "/app/serve.py"), ("dags", "/app/dags")]
        assert all((IMAGE / source).exists() for source, _ in copied(BUILD) + copied(FINAL))

    @pytest.mark.parametrize("stage", [BUILD, FINAL], ids=["build", "final"])
    def test_no_layer_is_given_a_secret(self, stage: Stage) -> None:
        named = [*environment(stage), *all_of(stage, "ARG")]
        assert not [name for name in named if re.search("TOKEN|SECRET|PASS|KEY|CREDENTIAL|CONN", name.upper())]
        assert not re.search(r"\w+://\S+@", (IMAGE / "Dockerfile").read_text())

    def test_the_dags_import_nothing_of_the_project(self) -> None:
        assert not re.search(r"^\s*(from|import) continuous_training", "".join(_dags()), re.MULTILINE)


class TestSpace:
    def test_its_port_is_the_one_that_hugging_face_is_told_of(self) -> None:
        front = yaml.safe_load(README.split("---\n")[1])
        assert front["sdk"] == "docker"
        assert front["app_port"] == int(the("EXPOSE")) == int(environment(FINAL)["AIRFLOW__API__PORT"])

    def test_it_runs_as_the_user_that_hugging_face_runs_it_as_in_a_home_of_his_own(self) -> None:
        assert the("USER") == "1000:1000"
        assert "useradd --uid 1000 --user-group --create-home" in the("RUN")
        assert environment(FINAL)["HOME"] == the("WORKDIR") == "/home/airflow"

    def test_the_dags_are_where_airflow_looks_and_are_switched_on(self) -> None:
        given = environment(FINAL)
        assert given["AIRFLOW__CORE__DAGS_FOLDER"] == dict(copied(FINAL))["dags"]
        assert given["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == "False"

    @pytest.mark.parametrize("name", [*GIVEN, "CT_CHECKOUT", "CT_SOURCE"])
    def test_the_readme_tells_every_setting(self, name: str) -> None:
        assert f"`{name}`" in README


class TestHowItRuns:
    def test_a_signal_reaches_it_and_not_a_shell(self) -> None:
        assert json.loads(the("ENTRYPOINT")) == ["python", dict(copied(FINAL))["serve.py"]]

    @pytest.mark.parametrize("part", ["metadatabase", "scheduler", "dag_processor", None])
    def test_it_is_healthy_while_all_of_its_parts_are(self, part: str | None) -> None:
        told = {name: {"status": "healthy"} for name in ("metadatabase", "scheduler", "dag_processor")}
        told |= {part: {"status": "unhealthy"}} if part else {}
        told["triggerer"] = {"status": None}
        command = json.loads(the("HEALTHCHECK").partition("CMD ")[2])
        with listening(lambda heard: (200 if heard.path.endswith("/health") else 404, json.dumps(told))) as address:
            given = {"PATH": os.environ["PATH"], "AIRFLOW__API__PORT": address.rpartition(":")[2]}
            found = subprocess.run([sys.executable, *command[1:]], env=given, timeout=60, check=False)
        assert found.returncode == bool(part)

    def test_what_ends_takes_the_others_with_it(self, tmp_path: Path) -> None:
        entry = Entry(tmp_path)
        components = entry.components()
        (tmp_path / "scheduler.ends").touch()
        assert entry.process.wait(60) == 1
        assert entry.log.read_text() == "airflow: scheduler has exited\n"
        assert (len(components), psutil.wait_procs(components, 60)[1]) == (3, [])

    def test_it_can_be_stopped(self, tmp_path: Path) -> None:
        entry = Entry(tmp_path)
        components = entry.components()
        entry.process.send_signal(signal.SIGTERM)
        assert entry.process.wait(60) == 0
        assert (len(components), psutil.wait_procs(components, 60)[1]) == (3, [])

    def test_the_admins_password_is_in_a_file_for_airflow_alone_and_nowhere_else(self, tmp_path: Path) -> None:
        (tmp_path / "of").mkdir()
        (tmp_path / "of" / "passwords.json").write_text("of an older start, for everybody")
        entry = Entry(tmp_path)
        entry.components()
        entry.process.terminate()
        entry.process.wait(60)
        kept = tmp_path / "of" / "passwords.json"
        assert json.loads(kept.read_text()) == {"admin": GIVEN["AIRFLOW_ADMIN_PASSWORD"]}
        assert kept.stat().st_mode & 0o777 == 0o600
        assert str(kept) in entry.inherited()
        assert GIVEN["AIRFLOW_ADMIN_PASSWORD"] not in entry.inherited() + entry.log.read_text()

    def test_a_space_writes_links_to_its_own_name_and_its_tasks_ask_this_machine(self, tmp_path: Path) -> None:
        entry = Entry(tmp_path, SPACE_HOST="team-airflow.hf.space", AIRFLOW__API__PORT="7860")
        entry.components()
        entry.process.terminate()
        entry.process.wait(60)
        assert "'AIRFLOW__API__BASE_URL': 'https://team-airflow.hf.space'" in entry.inherited()
        assert "'AIRFLOW__CORE__EXECUTION_API_SERVER_URL': 'http://127.0.0.1:7860/execution/'" in entry.inherited()


class TestRefusals:
    @pytest.mark.parametrize("empty", [None, ""], ids=["not set", "empty"])
    @pytest.mark.parametrize("name", GIVEN)
    def test_what_is_missing_is_named(self, tmp_path: Path, name: str, empty: str | None) -> None:
        assert Entry(tmp_path, **{name: empty}).refused().startswith(f"airflow: set {name} (")

    def test_a_short_password_is_refused(self, tmp_path: Path) -> None:
        message = Entry(tmp_path, AIRFLOW_ADMIN_PASSWORD="elevenchars").refused()
        assert message == "airflow: set AIRFLOW_ADMIN_PASSWORD to 12 characters or more"

    @pytest.mark.parametrize(
        "connection",
        ["jenkins://pinger:of-the-pinger@j.example", "[]", json.dumps({**WHOLE, "port": None}), json.dumps({})],
        ids=["an address", "a list", "without a port", "nothing"],
    )
    def test_half_a_connection_is_refused(self, tmp_path: Path, connection: str) -> None:
        message = Entry(tmp_path, AIRFLOW_CONN_JENKINS_DEFAULT=connection).refused()
        assert message.startswith("airflow: AIRFLOW_CONN_JENKINS_DEFAULT is not a complete connection: write it as {")


def _dags() -> list[str]:
    return [path.read_text() for path in (IMAGE / "dags").glob("*.py")]
