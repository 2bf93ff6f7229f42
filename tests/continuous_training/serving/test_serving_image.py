"""The server's image, as far as it can be tested without a build: its content, its user and its start."""

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

from conftest import ROOT, TIMEOUT, wait_until
from dockerfile import Instruction, Stage, all_of, build_context, copied_files, environment, health, stages
from requirements_lock import pins

DOCKERFILE = ROOT / "jenkins" / "serving.Dockerfile"
LOCK = ROOT / "jenkins" / "serving.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


BUILD, FINAL = stages(DOCKERFILE)


def get_instruction(name: str) -> str:
    """Return the arguments of the only such instruction in the final stage."""
    (arguments,) = all_of(FINAL, name)
    return arguments


class TestLock:
    def test_every_pin_is_in_the_pipelines_lock(self) -> None:
        pipeline = pins(ROOT / "requirements.lock")
        assert {pin: pipeline.get(pin) for pin in pins(LOCK)} == pins(LOCK)

    def test_it_has_every_dependency(self) -> None:
        versions = dict(pins(LOCK).keys())
        for requirement in map(Requirement, PROJECT["dependencies"]):
            assert versions[canonicalize_name(requirement.name)].removeprefix("==") in requirement.specifier

    def test_it_has_no_dependencies_of_extras(self) -> None:
        extras = [Requirement(line) for extra in PROJECT["optional-dependencies"].values() for line in extra]
        core = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
        only_in_extras = {canonicalize_name(extra.name) for extra in extras} - core
        assert not only_in_extras & {name for name, _ in pins(LOCK)}

    def test_every_pin_has_a_hash(self) -> None:
        assert all(pins(LOCK).values())

    def test_its_first_line_has_the_command_that_makes_it(self) -> None:
        assert LOCK.read_text().splitlines()[0] == "# Made by: scripts/ct lock"


class TestContent:
    def test_both_stages_have_the_slim_python(self) -> None:
        assert {stage[0].rest.split()[0] for stage in (BUILD, FINAL)} == {"python:3.11-slim-bookworm"}

    def test_packages_are_installed_as_wheels_with_hashes(self) -> None:
        (install,) = [run for run in all_of(BUILD, "RUN") if "pip install" in run]
        assert {"--require-hashes", "--only-binary=:all:", "/serving.lock"} <= set(install.split())
        assert ("jenkins/serving.lock", "/serving.lock") in copied_files(BUILD)

    def test_what_the_models_import_is_installed_as_wheels_too(self) -> None:
        install = all_of(BUILD, "RUN")[-1].split()
        assert {"PIP_ONLY_BINARY=:all:", "UV_NO_BUILD=1"} <= set(install)
        source, target = copied_files(BUILD)[-1]
        script, venv, models = install[install.index("sh") + 1 :]
        assert (ROOT / script.replace(target, source, 1).lstrip("/")).is_file()
        assert (venv, models) == ("/venv", f"{target}/")

    def test_the_final_stage_installs_nothing_but_a_library_that_lightgbm_needs(self) -> None:
        openmp, *others = all_of(FINAL, "RUN")
        assert re.fullmatch(
            r"apt-get update .* --no-install-recommends libgomp1 +&& rm -rf /var/lib/apt/lists/\*", openmp
        )
        assert not re.search(r"\b(apt|apt-get|pip|gcc|curl|wget)\b", " ".join(others))

    def test_only_the_servers_files_are_copied(self) -> None:
        assert copied_files(FINAL) == [("scripts/serve.py", "scripts/serve.py"), ("src", "src")]

    @pytest.mark.parametrize("source", [source for source, _ in copied_files(BUILD) + copied_files(FINAL)])
    def test_copied_files_exist_and_are_in_the_build_context(self, source: str) -> None:
        files = [path for path in (ROOT / source, *(ROOT / source).rglob("*")) if path.is_file()]
        expected = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
        assert expected
        assert expected <= build_context(DOCKERFILE, ROOT)

    @pytest.mark.parametrize(
        "path",
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
    def test_other_files_are_not_in_the_build_context(self, tmp_path: Path, path: str) -> None:
        for name in (path, "src/flight_delays/model.py", "scripts/serve.py", "jenkins/serving.lock"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        assert build_context(DOCKERFILE, tmp_path) == {
            "src/flight_delays/model.py",
            "scripts/serve.py",
            "jenkins/serving.lock",
        }

    @pytest.mark.parametrize("stage", [BUILD, FINAL], ids=["build", "final"])
    def test_no_layer_has_a_secret(self, stage: Stage) -> None:
        names = [*environment(stage), *all_of(stage, "ARG")]
        assert not [name for name in names if re.search("TOKEN|SECRET|PASS|KEY|CREDENTIAL|_URI|_URL", name.upper())]
        assert not re.search(r"https?://\S+@", DOCKERFILE.read_text())


class TestRuntime:
    def test_it_runs_as_a_user_other_than_root(self) -> None:
        user, group = map(int, get_instruction("USER").split(":"))
        assert (user, group) == (10001, 10001)

    def test_its_state_is_on_a_writable_volume(self) -> None:
        assert get_instruction("VOLUME") == f"{get_instruction('WORKDIR')}/.ct"
        command = all_of(FINAL, "RUN")[-1]
        user, group = get_instruction("USER").split(":")
        assert f"install --directory --owner={user} --group={group} {get_instruction('VOLUME')}" in command
        assert FINAL.index(Instruction("RUN", command)) < FINAL.index(Instruction("VOLUME", get_instruction("VOLUME")))

    @pytest.mark.parametrize("name", ["ENTRYPOINT", "CMD"])
    def test_it_gets_signals_without_a_shell(self, name: str) -> None:
        command = json.loads(get_instruction(name))
        assert all(isinstance(part, str) for part in command)

    def test_its_log_is_not_buffered(self) -> None:
        assert environment(FINAL)["PYTHONUNBUFFERED"] == "1"

    @pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
    def test_its_health_check_calls_health(self, status: int, code: int) -> None:
        command = json.loads(get_instruction("HEALTHCHECK").partition("CMD ")[2])
        assert get_instruction("EXPOSE") in command[-1]
        with health(status) as port:
            script = command[-1].replace(get_instruction("EXPOSE"), str(port))
            result = subprocess.run([sys.executable, *command[1:-1], script], timeout=TIMEOUT, check=False)
        assert result.returncode == code


def unpack(folder: Path) -> None:
    """Copy the image's files to a folder that is read-only except for the volume."""
    for source, target in copied_files(FINAL):
        path = folder / target
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            path.parent.mkdir(parents=True)
            shutil.copy(ROOT / source, path)
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir() and path.name != ".ct")]:
        inner.chmod(0o555)


@pytest.mark.integration(seconds=15)
def test_the_copied_files_run_without_the_rest_of_the_project_and_without_privileges(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    (tmp_path / ".ct").mkdir()
    shutil.copy(empty_mlflow, tmp_path / ".ct" / "mlflow.db")
    unpack(tmp_path)
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "PYTHONPATH": environment(FINAL)["PYTHONPATH"].replace(get_instruction("WORKDIR"), str(tmp_path)),
    }
    # Without its capabilities root cannot write against these modes.
    drop_capabilities = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    entry = [*drop_capabilities, *json.loads(get_instruction("ENTRYPOINT"))]

    def run(*command: str) -> str:
        return subprocess.run(command, cwd=tmp_path, env=environ, text=True, capture_output=True, check=True).stdout

    module_path = run(
        *drop_capabilities, "python", "-c", "import continuous_training; print(continuous_training.__file__)"
    )
    assert module_path.startswith(str(tmp_path))
    assert run(*drop_capabilities, "sh", "-c", "touch src/written 2>&1 || echo denied").endswith("denied\n")
    assert "--model MODEL" in run(*entry, "--help")

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*entry, *json.loads(get_instruction("CMD")), "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True) as server:

        def responds() -> bool:
            assert server.poll() is None
            try:
                return requests.get(f"http://127.0.0.1:{port}/health", timeout=TIMEOUT).ok
            except requests.ConnectionError:
                return False

        try:
            wait_until(responds, "the server responds")
        finally:
            server.terminate()
            _, output = server.communicate(timeout=TIMEOUT)
    assert server.returncode == 0, output
