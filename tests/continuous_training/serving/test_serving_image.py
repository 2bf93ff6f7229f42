"""The server's image, as far as it can be judged without building it: what goes in, as whom it runs, how it starts."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import ROOT, wait_until
from dockerfile import Instruction, Stage, all_of, copied, environment, health, sent, stages
from lock import pins

DOCKERFILE = ROOT / "jenkins" / "serving.Dockerfile"
LOCK = ROOT / "jenkins" / "serving.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


BUILD, FINAL = stages(DOCKERFILE)


def the(word: str) -> str:
    """Return the one such instruction of the final stage."""
    (rest,) = all_of(FINAL, word)
    return rest


class TestLock:
    def test_every_pin_is_the_one_that_the_pipeline_tests_with(self) -> None:
        tested = pins(ROOT / "requirements.lock")
        assert {pin: tested.get(pin) for pin in pins(LOCK)} == pins(LOCK)

    def test_it_has_all_that_the_project_needs(self) -> None:
        locked = dict(pins(LOCK).keys())
        for needed in map(Requirement, PROJECT["dependencies"]):
            assert locked[canonicalize_name(needed.name)].removeprefix("==") in needed.specifier

    def test_it_has_nothing_of_the_extras(self) -> None:
        extras = [Requirement(each) for extra in PROJECT["optional-dependencies"].values() for each in extra]
        core = {canonicalize_name(Requirement(each).name) for each in PROJECT["dependencies"]}
        only = {canonicalize_name(each.name) for each in extras} - core
        assert not only & {name for name, _ in pins(LOCK)}

    def test_every_pin_has_a_hash(self) -> None:
        assert all(pins(LOCK).values())

    def test_its_first_line_says_how_it_is_made(self) -> None:
        made = LOCK.read_text().splitlines()[0]
        assert re.fullmatch(r"# Made by: .* -c requirements\.lock pyproject\.toml -o jenkins/serving\.lock; .*", made)


class TestWhatGoesIn:
    def test_the_python_is_the_slim_one_in_both_stages(self) -> None:
        assert {stage[0].rest.split()[0] for stage in (BUILD, FINAL)} == {"python:3.11-slim-bookworm"}

    def test_every_package_comes_as_a_wheel_and_by_its_hash(self) -> None:
        (installing,) = [run for run in all_of(BUILD, "RUN") if "pip install" in run]
        assert {"--require-hashes", "--only-binary=:all:", "/serving.lock"} <= set(installing.split())
        assert ("jenkins/serving.lock", "/serving.lock") in copied(BUILD)

    def test_nothing_is_installed_in_the_stage_that_runs(self) -> None:
        assert not re.search(r"\b(apt|apt-get|pip|gcc|curl|wget)\b", " ".join(all_of(FINAL, "RUN")))

    def test_only_what_the_server_needs_is_copied(self) -> None:
        assert copied(FINAL) == [("scripts/serve.py", "scripts/serve.py"), ("src", "src")]

    @pytest.mark.parametrize("source", [source for source, _ in copied(BUILD) + copied(FINAL)])
    def test_what_is_copied_is_there_and_is_sent(self, source: str) -> None:
        files = [path for path in (ROOT / source, *(ROOT / source).rglob("*")) if path.is_file()]
        wanted = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
        assert wanted
        assert wanted <= sent(DOCKERFILE, ROOT)

    @pytest.mark.parametrize(
        "stray",
        [
            *(".git/config", ".ct/mlflow.db", ".venv/bin/python", ".env", "build/run.json"),
            *("key.pem", "jenkins/key.pem", "jenkins/iam-policy.json"),
            *("src/.env", "src/flight_delays/.env", "src/flight_delays/__pycache__/model.pyc", "src/x/.git/config"),
            *(
                "tests/continuous_training/conftest.py",
                "scripts/train.py",
                "scripts/ct",
                "README.md",
                "requirements.lock",
            ),
        ],
    )
    def test_all_else_stays_out(self, tmp_path: Path, stray: str) -> None:
        for path in (stray, "src/flight_delays/model.py", "scripts/serve.py", "jenkins/serving.lock"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        assert sent(DOCKERFILE, tmp_path) == {"src/flight_delays/model.py", "scripts/serve.py", "jenkins/serving.lock"}

    @pytest.mark.parametrize("stage", [BUILD, FINAL], ids=["build", "final"])
    def test_no_layer_is_given_a_secret(self, stage: Stage) -> None:
        named = [*environment(stage), *all_of(stage, "ARG")]
        assert not [name for name in named if re.search("TOKEN|SECRET|PASS|KEY|CREDENTIAL|_URI|_URL", name.upper())]
        assert not re.search(r"https?://\S+@", DOCKERFILE.read_text())


class TestHowItRuns:
    def test_it_runs_as_a_user_whose_number_is_not_roots(self) -> None:
        user, group = map(int, the("USER").split(":"))
        assert (user, group) == (10001, 10001)

    def test_what_it_keeps_is_on_a_volume_that_it_may_write(self) -> None:
        assert the("VOLUME") == f"{the('WORKDIR')}/.ct"
        (making,) = all_of(FINAL, "RUN")
        user, group = the("USER").split(":")
        assert f"install --directory --owner={user} --group={group} {the('VOLUME')}" in making
        assert FINAL.index(Instruction("RUN", making)) < FINAL.index(Instruction("VOLUME", the("VOLUME")))

    @pytest.mark.parametrize("word", ["ENTRYPOINT", "CMD"])
    def test_a_signal_reaches_it_and_not_a_shell(self, word: str) -> None:
        command = json.loads(the(word))
        assert all(isinstance(part, str) for part in command)

    def test_it_writes_its_log_at_once(self) -> None:
        assert environment(FINAL)["PYTHONUNBUFFERED"] == "1"

    @pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
    def test_it_is_healthy_while_health_says_so(self, status: int, code: int) -> None:
        command = json.loads(the("HEALTHCHECK").partition("CMD ")[2])
        assert the("EXPOSE") in command[-1]
        with health(status) as port:
            script = command[-1].replace(the("EXPOSE"), str(port))
            found = subprocess.run([sys.executable, *command[1:-1], script], timeout=60, check=False)
        assert found.returncode == code


def unpack(folder: Path) -> None:
    """Copy into a folder what the image has in its own, so that nothing there can be written but the volume."""
    for source, target in copied(FINAL):
        place = folder / target
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            place.parent.mkdir(parents=True)
            shutil.copy(ROOT / source, place)
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir() and path.name != ".ct")]:
        inner.chmod(0o555)


@pytest.mark.integration(seconds=15)
def test_what_is_copied_starts_without_the_rest_of_the_project_and_without_any_privilege(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    (tmp_path / ".ct").mkdir()
    shutil.copy(empty_mlflow, tmp_path / ".ct" / "mlflow.db")
    unpack(tmp_path)
    given = {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "PYTHONPATH": environment(FINAL)["PYTHONPATH"].replace(the("WORKDIR"), str(tmp_path)),
    }
    # What lets root write in spite of these modes is a privilege that can be given away.
    unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    entry = [*unprivileged, *json.loads(the("ENTRYPOINT"))]

    def run(*command: str) -> str:
        return subprocess.run(command, cwd=tmp_path, env=given, text=True, capture_output=True, check=True).stdout

    imported = run(*unprivileged, "python", "-c", "import continuous_training as it; print(it.__file__)")
    assert imported.startswith(str(tmp_path))
    assert run(*unprivileged, "sh", "-c", "touch src/written 2>&1 || echo refused").endswith("refused\n")
    assert "--model MODEL" in run(*entry, "--help")

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*entry, *json.loads(the("CMD")), "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, env=given, stderr=subprocess.PIPE, text=True) as server:

        def answers() -> bool:
            assert server.poll() is None
            try:
                return requests.get(f"http://127.0.0.1:{port}/health", timeout=10).ok
            except requests.ConnectionError:
                return False

        try:
            wait_until(answers, "the server answers")
        finally:
            server.terminate()
            _, message = server.communicate(timeout=60)
    assert server.returncode == 0, message
