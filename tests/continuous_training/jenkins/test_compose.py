"""The stack in jenkins/compose.yaml, as far as it can be judged without a Docker engine."""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs
import pytest
import yaml

from conftest import ROOT, wait_until
from continuous_training.jenkins import env_file, stack_secrets
from continuous_training.serving.http.tokens import Tokens
from dockerfile import Stage, all_of, environment, stages
from listening import Heard, listening
from server import free_port

FILE = ROOT / "jenkins/compose.yaml"
STACK = yaml.safe_load(FILE.read_text())
SCHEMA = jsonschema_rs.validator_for(
    json.loads((ROOT / "tests/continuous_training/jenkins/reference/compose-schema.json").read_text())
)
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
BUILT = {name: service["build"] for name, service in SERVICES.items() if "build" in service}
EACH = pytest.mark.parametrize("name", list(SERVICES))
EACH_BUILT = pytest.mark.parametrize("name", list(BUILT))

USED = re.compile(r"(?<!\$)\$\{([A-Z0-9_]+)(?::([-?])([^}]*))?\}")
KINDS = dict(
    line.split()[:2]
    for line in (ROOT / "jenkins/environment.txt").read_text().splitlines()
    if line and not line.startswith("#")
)
BESIDE = {"MODEL", "NGROK_AUTHTOKEN"}  # what may stand in .env for other services than the controller
PORTS = {"controller": 8080, "mlflow": 7860, "serving": 8000, "repository": None, "postgres": 5432, "s3": 7070}
LISTENING_FOR = {"http", "git", "postgresql"}
SECRET = re.compile("PASSWORD|TOKEN|SECRET|KEY|URI")


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return what `ct secrets` writes into an empty file."""
    monkeypatch.setattr(stack_secrets, "CONTROLLER_VARIABLES", ROOT / "jenkins/environment.txt")
    monkeypatch.setattr(stack_secrets, "FILE", tmp_path / ".env")
    monkeypatch.chdir(tmp_path)
    stack_secrets.fill()
    return env_file.parse((tmp_path / ".env").read_text())


def interpolated(text: str, given: dict[str, str]) -> str:
    """Put variables in their places, as Compose does."""

    def value(found: re.Match[str]) -> str:
        return given.get(found[1]) or (found[3] if found[2] == "-" else f"<no {found[1]}>")

    return USED.sub(value, text).replace("$$", "$")


def texts(given: Any) -> Iterator[str]:
    """Give every text, at any depth."""
    if isinstance(given, str):
        yield given
    for inner in given.values() if isinstance(given, dict) else given if isinstance(given, list) else ():
        yield from texts(inner)


def from_outside(service: dict[str, Any]) -> set[str]:
    """Return the variables that a service is given a part of: those put in places, passed on, and in files."""
    passed = {name for name, value in service.get("environment", {}).items() if value is None}
    return passed | {found[1] for text in texts(service) for found in USED.finditer(text)} | set(files(service))


def files(service: dict[str, Any]) -> list[str]:
    return [STACK["secrets"][name]["environment"] for name in service.get("secrets", [])]


def stage_of(name: str) -> Stage:
    """Return the stage of a Dockerfile that a service's image is."""
    build = BUILT[name]
    found = stages(FILE.parent / build["context"] / build.get("dockerfile", "Dockerfile"))
    if "target" not in build:
        return found[-1]
    [stage] = [stage for stage in found if all_of(stage, "FROM")[0].endswith(f" AS {build['target']}")]
    return stage


def compose() -> list[str] | None:
    """Find a Docker Compose of version 2 or later on this machine."""
    beside = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for command in [["docker", "compose"], *([[beside]] if beside else [])]:
        try:
            told = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            continue
        if int(told.strip().removeprefix("v").partition(".")[0]) >= 2:
            return command
    return None


class TestSchema:
    def test_it_is_what_the_compose_specification_allows(self) -> None:
        assert [f"{list(error.instance_path)}: {error.message}" for error in SCHEMA.iter_errors(STACK)] == []

    @pytest.mark.parametrize(
        "spoilt",
        [{"helthcheck": {}}, {"depends_on": {"s3": {"condition": "healthy"}}}, {"ports": "8080"}, {"mem_limit": []}],
    )
    def test_what_it_does_not_allow_is_found(self, spoilt: dict[str, Any]) -> None:
        stack = copy.deepcopy(STACK)
        stack["services"]["mlflow"].update(spoilt)
        assert not SCHEMA.is_valid(stack)


@pytest.mark.skipif(compose() is None, reason="there is no Docker Compose on this machine")
class TestDockerCompose:
    """What Compose itself makes of the file; it needs no engine for that."""

    def run(self, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run it as a person does, from the root of a project."""
        (folder / "jenkins").mkdir()
        shutil.copy(FILE, folder / "jenkins")
        if (folder / ".env").exists():
            (folder / ".env").rename(folder / "jenkins/.env")
        command = [*(compose() or []), "-f", "jenkins/compose.yaml", *arguments]
        known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True, check=False)

    @pytest.mark.usefixtures("secrets")
    @pytest.mark.parametrize("profile", [[], ["--profile", "tunnel"]], ids=["as it is", "with the tunnel"])
    def test_it_takes_it_with_nothing_but_the_secrets(self, tmp_path: Path, profile: list[str]) -> None:
        done = self.run(*profile, "config", "--quiet", folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")

    def test_without_the_secrets_it_says_how_to_make_them(self, tmp_path: Path) -> None:
        done = self.run("config", "--quiet", folder=tmp_path)
        assert done.returncode != 0
        assert "run scripts/ct secrets first" in done.stderr

    def test_it_reads_the_secrets_and_what_else_stands_beside_it(self, tmp_path: Path, secrets: dict[str, str]) -> None:
        with (tmp_path / ".env").open("a") as file:
            file.write("CT_BUCKET='a $b#c'\n")
        done = self.run("config", "--format", "json", folder=tmp_path)
        told = json.loads(done.stdout)["services"]
        assert told["agent"]["environment"]["JENKINS_AGENT_PASSWORD"] == secrets["JENKINS_AGENT_PASSWORD"]
        assert told["controller"]["environment"]["CT_BUCKET"] == "a $$b#c"  # as it would be written here
        assert told["controller"]["environment"].get("CT_AMI") is None
        assert "tunnel" not in told


class TestVariables:
    def test_each_is_made_by_ct_secrets_or_may_be_left_out(self, secrets: dict[str, str]) -> None:
        needed = set(STACK["secrets"])
        needed |= {found[1] for text in texts(SERVICES) for found in USED.finditer(text) if found[2] != "-"}
        assert needed == secrets.keys()

    def test_each_is_one_that_is_listed(self, secrets: dict[str, str]) -> None:
        used = {name for service in SERVICES.values() for name in from_outside(service)}
        assert used == secrets.keys() | KINDS.keys() | BESIDE

    def test_the_controller_is_given_all_that_casc_takes_and_nothing_else(self) -> None:
        controller = SERVICES["controller"]
        assert {*controller["environment"], *files(controller)} == KINDS.keys() | {"JAVA_OPTS"}

    def test_the_controllers_random_secrets_come_in_files_and_not_in_its_environment(self) -> None:
        random = {name for name, kind in KINDS.items() if kind == "random"}
        assert random <= set(files(SERVICES["controller"]))
        assert not random & SERVICES["controller"]["environment"].keys()

    @pytest.mark.parametrize(
        ("name", "given"),
        {
            "agent": {"JENKINS_AGENT_PASSWORD"},
            "repository": set(),
            "mlflow": {
                *("MLFLOW_ADMIN_PASSWORD", "MLFLOW_READER_PASSWORD", "MLFLOW_SESSION_KEY", "MLFLOW_TRACKING_PASSWORD"),
                *("MLFLOW_TRACKING_USERNAME", "POSTGRES_PASSWORD", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"),
            },
            "postgres": {"POSTGRES_PASSWORD"},
            "s3": {"S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"},
            "serving": {"CT_PREDICTIONS", "MLFLOW_READER_PASSWORD", "MLFLOW_TRACKING_URI", "MODEL", "SERVING_TOKEN"},
            "welcome": {"JENKINS_PUBLIC_URL"},
            "tunnel": {"NGROK_AUTHTOKEN"},
        }.items(),
    )
    def test_no_other_service_is_given_more_than_it_needs(self, name: str, given: set[str]) -> None:
        assert from_outside(SERVICES[name]) == given
        assert "env_file" not in SERVICES[name]

    @EACH
    def test_no_secret_stands_in_the_file(self, name: str) -> None:
        for variable, value in SERVICES[name].get("environment", {}).items():
            if SECRET.search(variable) and value is not None and not value.startswith("/run/secrets/"):
                assert USED.search(value) or variable == "GIT_CONFIG_KEY_0", variable

    def test_every_secret_file_is_used(self) -> None:
        assert {name for service in SERVICES.values() for name in files(service)} == STACK["secrets"].keys()
        assert all(given == {"environment": name} for name, given in STACK["secrets"].items())

    def test_a_read_only_service_has_no_secret_file_which_compose_could_not_write(self) -> None:
        assert not [name for name, service in SERVICES.items() if service.get("read_only") and files(service)]


class TestImages:
    @EACH_BUILT
    def test_what_is_built_has_its_dockerfile_and_its_target(self, name: str) -> None:
        assert stage_of(name)

    @EACH_BUILT
    def test_what_is_built_is_looked_for_in_no_registry(self, name: str) -> None:
        assert "image" not in SERVICES[name]  # somebody else may have that name there

    @pytest.mark.parametrize("name", sorted(SERVICES.keys() - BUILT.keys()))
    def test_all_others_are_pinned(self, name: str) -> None:
        assert re.fullmatch(r"[a-z0-9/-]+:v?\d+\.[\w.-]*\d[\w.-]*", SERVICES[name]["image"])

    @pytest.mark.parametrize("name", ["repository", "welcome"])
    def test_small_services_take_what_the_agent_is_built_on(self, name: str) -> None:
        assert SERVICES[name]["image"] == all_of(stage_of("agent"), "FROM")[0].split()[0]


class TestStart:
    @EACH
    def test_each_tells_whether_it_is_well_unless_it_runs_but_once(self, name: str) -> None:
        service = SERVICES[name]
        well = "healthcheck" in service or (name in BUILT and all_of(stage_of(name), "HEALTHCHECK"))
        assert bool(well) != (service["restart"] == "no")

    def test_what_waits_waits_for_a_service_that_is_always_there(self) -> None:
        waiting = {(one, other) for one, service in SERVICES.items() for other in service.get("depends_on", {})}
        assert {other for _, other in waiting} <= {name for name in SERVICES if "profiles" not in SERVICES[name]}
        assert {("agent", "controller"), ("agent", "mlflow"), ("mlflow", "postgres"), ("mlflow", "s3")} <= waiting

    def test_a_repository_elsewhere_does_not_wait_for_the_one_here_to_be_well(self) -> None:
        assert SERVICES["controller"]["depends_on"] == {"repository": {"condition": "service_started"}}

    def test_the_tunnel_is_opened_for_those_who_ask_for_it_alone(self) -> None:
        assert [name for name, service in SERVICES.items() if "profiles" in service] == ["tunnel"]

    def test_what_is_started_again_ends_when_a_person_ends_it(self) -> None:
        kinds = {name: service["restart"] for name, service in SERVICES.items()}
        assert {name: kind for name, kind in kinds.items() if kind != "unless-stopped"} == {
            "welcome": "no",
            "tunnel": "on-failure:5",
        }

    @pytest.mark.parametrize("name", ["controller", "agent", "mlflow", "serving"])
    def test_what_it_is_told_to_ask_is_a_service_that_it_reaches(self, name: str, secrets: dict[str, str]) -> None:
        told = [urlsplit(interpolated(text, secrets)) for text in texts(SERVICES[name]["environment"])]
        asked = {address.hostname: address.port for address in told if address.scheme in LISTENING_FOR}
        assert asked
        assert asked.items() <= PORTS.items()
        asking = "agent" if name == "controller" else name  # what the controller is told, the agent's builds ask
        for host in asked:
            assert set(SERVICES[asking]["networks"]) & set(SERVICES[str(host)]["networks"]), host

    def test_what_the_server_takes_is_what_deploy_shows(self, secrets: dict[str, str]) -> None:
        tokens = Tokens.parse(interpolated(SERVICES["serving"]["environment"]["SERVING_TOKENS"], secrets))
        assert tokens.find_client(f"Bearer {secrets['SERVING_TOKEN']}".encode()) == "jenkins"

    def test_who_asks_mlflow_is_who_it_knows(self) -> None:
        known = {
            environ[f"MLFLOW_AUTH_{role}_USERNAME"]: environ[f"MLFLOW_AUTH_{role}_PASSWORD"]
            for environ in [SERVICES["mlflow"]["environment"]]
            for role in ("ADMIN", "READER", "USER")
        }
        serving = SERVICES["serving"]["environment"]
        assert known[serving["MLFLOW_TRACKING_USERNAME"]] == serving["MLFLOW_TRACKING_PASSWORD"]
        pipeline = SERVICES["controller"]["environment"]["MLFLOW_TRACKING_USERNAME"]
        assert "MLFLOW_TRACKING_PASSWORD" in files(SERVICES["controller"])
        assert known[pipeline].startswith("${MLFLOW_TRACKING_PASSWORD:?")

    def test_what_it_says_at_first_can_be_done(self, secrets: dict[str, str]) -> None:
        [text] = SERVICES["welcome"]["command"]
        message = interpolated(text, {})
        assert "Jenkins is at http://localhost:8080/\n" in message
        assert "http://localhost:8080/job/model/job/main/" in message
        assert set(re.findall(r"--show (\w+)", message)) <= secrets.keys()
        published = {port.rpartition(":")[0].rpartition(":")[2] for port in ports()}
        assert set(re.findall(r"http://localhost:(\d+)", message)) == published

    def test_the_tunnel_leads_to_the_controller(self) -> None:
        [endpoint] = yaml.safe_load((ROOT / "jenkins/ngrok.yml").read_text())["endpoints"]
        address = urlsplit(endpoint["upstream"]["url"])
        assert (address.hostname, address.port) == ("controller", 8080)
        assert set(SERVICES["tunnel"]["networks"]) & set(SERVICES["controller"]["networks"])
        [mounted] = SERVICES["tunnel"]["volumes"]
        assert mounted["target"] in SERVICES["tunnel"]["command"]


def ports() -> list[str]:
    return [port for service in SERVICES.values() for port in service.get("ports", [])]


class TestHowLittleEachMay:
    def test_ports_are_open_on_this_machine_alone(self) -> None:
        assert ports()
        assert all(port.startswith("127.0.0.1:") for port in ports())

    @EACH
    def test_none_has_a_capability_or_can_gain_one(self, name: str) -> None:
        service = SERVICES[name]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service.keys() & {"cap_add", "privileged", "devices", "pid", "ipc", "userns_mode"}

    @EACH
    def test_none_fills_the_disk_with_its_log_or_takes_all_the_memory(self, name: str) -> None:
        assert SERVICES[name]["logging"]["options"].keys() == {"max-size", "max-file"}
        assert re.fullmatch(r"\d+[mg]", SERVICES[name]["mem_limit"])

    def test_nothing_of_this_machine_is_mounted_but_git_and_the_tunnels_rules_and_not_to_be_written(self) -> None:
        mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
        bound = [mount for mount in mounts if isinstance(mount, dict)]
        assert sorted(mount["source"] for mount in bound) == ["../.git", "ngrok.yml"]
        assert all(
            mount["read_only"] and mount["bind"] == {"create_host_path": False, "selinux": "z"} for mount in bound
        )
        named = {mount.partition(":")[0] for mount in mounts if isinstance(mount, str)}
        assert named == STACK["volumes"].keys()

    def test_no_build_reaches_the_database_or_the_store(self) -> None:
        assert STACK["networks"]["store"] == {"internal": True}
        assert SERVICES["postgres"]["networks"] == SERVICES["s3"]["networks"] == ["store"]
        assert [name for name, service in SERVICES.items() if "store" in service.get("networks", [])] == [
            *("mlflow", "postgres", "s3"),
        ]

    def test_volumes_lie_where_the_images_keep_what_they_must_not_lose(self) -> None:
        places = {name: SERVICES[name]["volumes"][0].partition(":")[2] for name in ("agent", "serving", "controller")}
        assert places == {
            "agent": environment(stage_of("agent"))["JENKINS_AGENT_WORKDIR"],
            "serving": all_of(stage_of("serving"), "VOLUME")[0],
            "controller": "/var/jenkins_home",
        }


class TestRepository:
    """Git's own server, started as the service starts it."""

    @pytest.fixture
    def daemon(self) -> Iterator[str]:
        """Serve a repository that belongs to somebody else, as it may on a person's machine; gives the address."""
        service = SERVICES["repository"]
        port = free_port()
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            checkout = Path(folder, "checkout")
            git = ["git", "-C", str(checkout), "-c", "user.name=x", "-c", "user.email=x@localhost"]
            subprocess.run(["git", "init", "--quiet", "--initial-branch=main", checkout], check=True)
            subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=first"], check=True)
            Path(folder, "srv").mkdir()
            (checkout / ".git").rename(f"{folder}/srv/project.git")
            shutil.copytree(f"{folder}/srv/project.git", f"{folder}/beside.git")
            other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
            command = [part.replace("/srv", f"{folder}/srv") for part in service["entrypoint"]]
            command[2:2] = ["--listen=127.0.0.1", f"--port={port}"]
            given = {"PATH": os.environ["PATH"], **service["environment"]}
            with subprocess.Popen([*other, *command], env=given, stderr=subprocess.DEVNULL) as process:
                yield f"git://127.0.0.1:{port}"
                process.terminate()

    def well(self, address: str) -> bool:
        command = [
            part.replace("git://127.0.0.1", address) for part in SERVICES["repository"]["healthcheck"]["test"][1:]
        ]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def test_it_is_well_when_its_main_can_be_cloned(self, daemon: str, tmp_path: Path) -> None:
        wait_until(lambda: self.well(daemon), "it is well")
        default = interpolated(SERVICES["controller"]["environment"]["CT_REPOSITORY"], {})
        address = default.replace("git://repository", daemon)
        subprocess.run(["git", "clone", "--quiet", "--branch=main", address, tmp_path / "clone"], check=True)
        assert (tmp_path / "clone/.git").is_dir()

    def test_what_the_controller_clones_is_where_it_is_mounted(self) -> None:
        [mounted] = SERVICES["repository"]["volumes"]
        address = urlsplit(interpolated(SERVICES["controller"]["environment"]["CT_REPOSITORY"], {}))
        assert (address.hostname, mounted["target"]) == ("repository", f"/srv{address.path}")

    def test_nobody_can_push_to_it_or_clone_what_lies_beside_it(self, daemon: str, tmp_path: Path) -> None:
        wait_until(lambda: self.well(daemon), "it is well")
        subprocess.run(["git", "clone", "--quiet", f"{daemon}/project.git", tmp_path / "clone"], check=True)
        for command in (["push", "origin", "HEAD:refs/heads/other"], ["ls-remote", f"{daemon}/../beside.git"]):
            done = subprocess.run(["git", *command], cwd=tmp_path / "clone", capture_output=True, check=False)
            assert done.returncode != 0


class TestStore:
    def test_its_bucket_is_there_when_it_starts(self, tmp_path: Path) -> None:
        """With a program in place of the gateway that tells what it was given, and what it finds."""
        program = tmp_path / "versitygw"
        program.write_text('#!/bin/sh\necho "$@"\nls "$5"\n')
        program.chmod(0o755)
        command = [part.replace("/data", f"{tmp_path}/data") for part in SERVICES["s3"]["entrypoint"]]
        given = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
        bucket = SERVICES["mlflow"]["environment"]["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://")
        assert done.stdout.splitlines() == [f"--quiet --health /health posix {tmp_path}/data", bucket]

    def test_who_asks_it_has_its_key(self) -> None:
        store, mlflow = SERVICES["s3"]["environment"], SERVICES["mlflow"]["environment"]
        assert store["ROOT_ACCESS_KEY_ID"] == mlflow["AWS_ACCESS_KEY_ID"]
        assert store["ROOT_SECRET_ACCESS_KEY"] == mlflow["AWS_SECRET_ACCESS_KEY"]

    def test_the_database_takes_its_password_from_the_file_that_it_is_given(self) -> None:
        service = SERVICES["postgres"]
        [name] = service["secrets"]
        assert service["environment"]["POSTGRES_PASSWORD_FILE"] == f"/run/secrets/{name}"


@contextmanager
def controller(status: int, body: str, asked: list[tuple[str, str | None]]) -> Iterator[str]:
    """Answer as Jenkins does when it is asked about an agent; gives the address."""

    def answer(heard: Heard) -> tuple[int, str]:
        asked.append((heard.path, heard.headers["Authorization"]))
        return status, body

    with listening(answer) as address:
        yield f"{address}/"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is in the image, but not on this machine")
@pytest.mark.parametrize(
    ("status", "body", "well"),
    [
        (200, '{"_class":"hudson.slaves.SlaveComputer","offline":false}', True),
        (200, '{"_class":"hudson.slaves.SlaveComputer","offline":true}', False),
        (401, "", False),
        (503, "Please wait", False),
    ],
    ids=["connected", "not connected", "wrong password", "starting"],
)
def test_the_agent_is_well_when_the_controller_says_that_it_is_connected(status: int, body: str, well: bool) -> None:
    kind, script = SERVICES["agent"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    asked: list[tuple[str, str | None]] = []
    with controller(status, body, asked) as address:
        given = {**environment(stage_of("agent")), "JENKINS_URL": address, "JENKINS_AGENT_PASSWORD": 'p"\\ :s'}
        done = subprocess.run(
            ["sh", "-c", script.replace("$$", "$")],
            env={"PATH": os.environ["PATH"], **given},
            capture_output=True,
            check=False,
        )
    assert (done.returncode == 0) == well
    encoded = base64.b64encode(b'agent:p"\\ :s').decode()
    assert asked == [("/computer/agent/api/json?tree=offline", f"Basic {encoded}")]
