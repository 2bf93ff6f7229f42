"""The stack in jenkins/compose.yaml, without a Docker engine."""

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
from http_stub import Request, http_stub
from ports import free_port

FILE = ROOT / "jenkins/compose.yaml"
STACK = yaml.safe_load(FILE.read_text())
SCHEMA = jsonschema_rs.validator_for(
    json.loads((ROOT / "tests/continuous_training/jenkins/reference/compose-schema.json").read_text())
)
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
BUILDS = {name: service["build"] for name, service in SERVICES.items() if "build" in service}
EACH_SERVICE = pytest.mark.parametrize("name", list(SERVICES))
EACH_SERVICE_WITH_BUILD = pytest.mark.parametrize("name", list(BUILDS))

VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z0-9_]+)(?::([-?])([^}]*))?\}")
KINDS = dict(
    line.split()[:2]
    for line in (ROOT / "jenkins/environment.txt").read_text().splitlines()
    if line and not line.startswith("#")
)
OTHER_VARIABLES = {"MODEL", "NGROK_AUTHTOKEN"}  # variables in .env for services other than the controller
PORTS = {"controller": 8080, "mlflow": 7860, "serving": 8000, "repository": None, "postgres": 5432, "s3": 7070}
SCHEMES = {"http", "git", "postgresql"}
SECRET = re.compile("PASSWORD|TOKEN|SECRET|KEY|URI")


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the secrets that `ct secrets` writes into an empty file."""
    monkeypatch.setattr(stack_secrets, "CONTROLLER_VARIABLES", ROOT / "jenkins/environment.txt")
    monkeypatch.setattr(stack_secrets, "FILE", tmp_path / ".env")
    monkeypatch.chdir(tmp_path)
    stack_secrets.fill()
    return env_file.parse((tmp_path / ".env").read_text())


def interpolate(text: str, variables: dict[str, str]) -> str:
    """Replace variables by their values, as Compose does."""

    def value(match: re.Match[str]) -> str:
        return variables.get(match[1]) or (match[3] if match[2] == "-" else f"<no {match[1]}>")

    return VARIABLE.sub(value, text).replace("$$", "$")


def texts(value: Any) -> Iterator[str]:
    """Yield every text, at any depth."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(inner)


def variables_of(service: dict[str, Any]) -> set[str]:
    """Return the variables that a service gets: interpolated, in its environment, or as files."""
    names = {name for name, value in service.get("environment", {}).items() if value is None}
    return names | {match[1] for text in texts(service) for match in VARIABLE.finditer(text)} | set(files(service))


def files(service: dict[str, Any]) -> list[str]:
    return [STACK["secrets"][name]["environment"] for name in service.get("secrets", [])]


def stage_of(name: str) -> Stage:
    """Return the stage of the Dockerfile that is the image of a service."""
    build = BUILDS[name]
    all_stages = stages(FILE.parent / build["context"] / build.get("dockerfile", "Dockerfile"))
    if "target" not in build:
        return all_stages[-1]
    [stage] = [stage for stage in all_stages if all_of(stage, "FROM")[0].endswith(f" AS {build['target']}")]
    return stage


def compose() -> list[str] | None:
    """Return the command of Docker Compose 2 or later, if it is on this machine."""
    standalone = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for command in [["docker", "compose"], *([[standalone]] if standalone else [])]:
        try:
            version = subprocess.run(
                [*command, "version", "--short"], capture_output=True, text=True, check=True
            ).stdout
        except (OSError, subprocess.CalledProcessError):
            continue
        if int(version.strip().removeprefix("v").partition(".")[0]) >= 2:
            return command
    return None


class TestSchema:
    def test_the_file_fits_the_compose_specification(self) -> None:
        assert [f"{list(error.instance_path)}: {error.message}" for error in SCHEMA.iter_errors(STACK)] == []

    @pytest.mark.parametrize(
        "change",
        [{"helthcheck": {}}, {"depends_on": {"s3": {"condition": "healthy"}}}, {"ports": "8080"}, {"mem_limit": []}],
    )
    def test_an_error_is_reported(self, change: dict[str, Any]) -> None:
        stack = copy.deepcopy(STACK)
        stack["services"]["mlflow"].update(change)
        assert not SCHEMA.is_valid(stack)


@pytest.mark.skipif(compose() is None, reason="there is no Docker Compose on this machine")
class TestDockerCompose:
    """The file as Compose reads it, which needs no engine."""

    def run(self, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run Compose in the root of a project."""
        (folder / "jenkins").mkdir()
        shutil.copy(FILE, folder / "jenkins")
        if (folder / ".env").exists():
            (folder / ".env").rename(folder / "jenkins/.env")
        command = [*(compose() or []), "-f", "jenkins/compose.yaml", *arguments]
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    @pytest.mark.usefixtures("secrets")
    @pytest.mark.parametrize("profile", [[], ["--profile", "tunnel"]], ids=["default", "tunnel"])
    def test_the_file_needs_only_the_secrets(self, tmp_path: Path, profile: list[str]) -> None:
        process = self.run(*profile, "config", "--quiet", folder=tmp_path)
        assert (process.returncode, process.stderr) == (0, "")

    def test_without_secrets_the_error_has_the_command_that_creates_them(self, tmp_path: Path) -> None:
        process = self.run("config", "--quiet", folder=tmp_path)
        assert process.returncode != 0
        assert "run scripts/ct secrets first" in process.stderr

    def test_secrets_and_other_variables_are_read_from_env(self, tmp_path: Path, secrets: dict[str, str]) -> None:
        with (tmp_path / ".env").open("a") as file:
            file.write("CT_BUCKET='a $b#c'\n")
        process = self.run("config", "--format", "json", folder=tmp_path)
        services = json.loads(process.stdout)["services"]
        assert services["agent"]["environment"]["JENKINS_AGENT_PASSWORD"] == secrets["JENKINS_AGENT_PASSWORD"]
        assert services["controller"]["environment"]["CT_BUCKET"] == "a $$b#c"  # with the escape of Compose
        assert services["controller"]["environment"].get("CT_AMI") is None
        assert "tunnel" not in services


class TestVariables:
    def test_every_required_variable_is_created_by_ct_secrets(self, secrets: dict[str, str]) -> None:
        required_variables = set(STACK["secrets"])
        required_variables |= {
            match[1] for text in texts(SERVICES) for match in VARIABLE.finditer(text) if match[2] != "-"
        }
        assert required_variables == secrets.keys()

    def test_every_variable_is_documented(self, secrets: dict[str, str]) -> None:
        variables = {name for service in SERVICES.values() for name in variables_of(service)}
        assert variables == secrets.keys() | KINDS.keys() | OTHER_VARIABLES

    def test_the_controller_gets_exactly_the_variables_of_casc(self) -> None:
        controller = SERVICES["controller"]
        assert {*controller["environment"], *files(controller)} == KINDS.keys() | {"JAVA_OPTS"}

    def test_the_controller_gets_random_secrets_as_files(self) -> None:
        random = {name for name, kind in KINDS.items() if kind == "random"}
        assert random <= set(files(SERVICES["controller"]))
        assert not random & SERVICES["controller"]["environment"].keys()

    @pytest.mark.parametrize(
        ("name", "variables"),
        {
            "agent": {"JENKINS_AGENT_PASSWORD"},
            "repository": set(),
            "mlflow": {
                *("MLFLOW_ADMIN_PASSWORD", "MLFLOW_READER_PASSWORD", "MLFLOW_SESSION_KEY", "MLFLOW_TRACKING_PASSWORD"),
                *("MLFLOW_TRACKING_USERNAME", "POSTGRES_PASSWORD", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"),
            },
            "postgres": {"POSTGRES_PASSWORD"},
            "s3": {"S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"},
            "serving": {
                "CT_PREDICTIONS",
                "CT_SIGNING_PUBLIC_KEYS",
                "MLFLOW_READER_PASSWORD",
                "MLFLOW_TRACKING_URI",
                "MODEL",
                "SERVING_TOKEN",
            },
            "welcome": {"JENKINS_PUBLIC_URL"},
            "tunnel": {"NGROK_AUTHTOKEN"},
        }.items(),
    )
    def test_other_services_get_only_the_variables_that_they_need(self, name: str, variables: set[str]) -> None:
        assert variables_of(SERVICES[name]) == variables
        assert "env_file" not in SERVICES[name]

    @EACH_SERVICE
    def test_no_secret_is_in_the_file(self, name: str) -> None:
        for variable, value in SERVICES[name].get("environment", {}).items():
            if SECRET.search(variable) and value is not None and not value.startswith("/run/secrets/"):
                assert VARIABLE.search(value) or variable == "GIT_CONFIG_KEY_0", variable

    def test_every_secret_file_is_used(self) -> None:
        assert {name for service in SERVICES.values() for name in files(service)} == STACK["secrets"].keys()
        assert all(source == {"environment": name} for name, source in STACK["secrets"].items())

    def test_no_read_only_service_has_a_secret_file(self) -> None:
        assert not [name for name, service in SERVICES.items() if service.get("read_only") and files(service)]


class TestImages:
    @EACH_SERVICE_WITH_BUILD
    def test_every_service_with_a_build_has_a_dockerfile_and_a_target(self, name: str) -> None:
        assert stage_of(name)

    @EACH_SERVICE_WITH_BUILD
    def test_no_service_with_a_build_has_the_name_of_an_image(self, name: str) -> None:
        assert "image" not in SERVICES[name]  # which could exist in a registry

    @pytest.mark.parametrize("name", sorted(SERVICES.keys() - BUILDS.keys()))
    def test_all_other_images_are_pinned(self, name: str) -> None:
        assert re.fullmatch(r"[a-z0-9/-]+:v?\d+\.[\w.-]*\d[\w.-]*", SERVICES[name]["image"])

    @pytest.mark.parametrize("name", ["repository", "welcome"])
    def test_small_services_have_the_base_image_of_the_agent(self, name: str) -> None:
        assert SERVICES[name]["image"] == all_of(stage_of("agent"), "FROM")[0].split()[0]


class TestStart:
    @EACH_SERVICE
    def test_every_service_has_a_health_check_unless_it_runs_once(self, name: str) -> None:
        service = SERVICES[name]
        has_check = "healthcheck" in service or (name in BUILDS and all_of(stage_of(name), "HEALTHCHECK"))
        assert bool(has_check) != (service["restart"] == "no")

    def test_services_depend_only_on_services_without_a_profile(self) -> None:
        dependencies = {(name, other) for name, service in SERVICES.items() for other in service.get("depends_on", {})}
        assert {other for _, other in dependencies} <= {name for name in SERVICES if "profiles" not in SERVICES[name]}
        assert {("agent", "controller"), ("agent", "mlflow"), ("mlflow", "postgres"), ("mlflow", "s3")} <= dependencies

    def test_the_controller_does_not_wait_for_a_healthy_repository(self) -> None:
        assert SERVICES["controller"]["depends_on"] == {"repository": {"condition": "service_started"}}

    def test_only_the_tunnel_has_a_profile(self) -> None:
        assert [name for name, service in SERVICES.items() if "profiles" in service] == ["tunnel"]

    def test_restart_policies(self) -> None:
        policies = {name: service["restart"] for name, service in SERVICES.items()}
        assert {name: policy for name, policy in policies.items() if policy != "unless-stopped"} == {
            "welcome": "no",
            "tunnel": "on-failure:5",
        }

    @pytest.mark.parametrize("name", ["controller", "agent", "mlflow", "serving"])
    def test_every_url_is_of_a_service_in_a_common_network(self, name: str, secrets: dict[str, str]) -> None:
        urls = [urlsplit(interpolate(text, secrets)) for text in texts(SERVICES[name]["environment"])]
        hosts = {url.hostname: url.port for url in urls if url.scheme in SCHEMES}
        assert hosts
        assert hosts.items() <= PORTS.items()
        client = "agent" if name == "controller" else name  # the agent's builds use the URLs of the controller
        for host in hosts:
            assert set(SERVICES[client]["networks"]) & set(SERVICES[str(host)]["networks"]), host

    def test_the_server_accepts_the_token_of_deploy(self, secrets: dict[str, str]) -> None:
        tokens = Tokens.parse(interpolate(SERVICES["serving"]["environment"]["SERVING_TOKENS"], secrets))
        assert tokens.find_client(f"Bearer {secrets['SERVING_TOKEN']}".encode()) == "jenkins"

    def test_the_clients_of_mlflow_are_its_users(self) -> None:
        passwords = {
            environ[f"MLFLOW_AUTH_{role}_USERNAME"]: environ[f"MLFLOW_AUTH_{role}_PASSWORD"]
            for environ in [SERVICES["mlflow"]["environment"]]
            for role in ("ADMIN", "READER", "USER")
        }
        serving = SERVICES["serving"]["environment"]
        assert passwords[serving["MLFLOW_TRACKING_USERNAME"]] == serving["MLFLOW_TRACKING_PASSWORD"]
        pipeline = SERVICES["controller"]["environment"]["MLFLOW_TRACKING_USERNAME"]
        assert "MLFLOW_TRACKING_PASSWORD" in files(SERVICES["controller"])
        assert passwords[pipeline].startswith("${MLFLOW_TRACKING_PASSWORD:?")

    def test_the_welcome_message_has_valid_urls_and_secrets(self, secrets: dict[str, str]) -> None:
        [text] = SERVICES["welcome"]["command"]
        message = interpolate(text, {})
        assert "Jenkins is at http://localhost:8080/\n" in message
        assert "http://localhost:8080/job/model/job/main/" in message
        assert set(re.findall(r"--show (\w+)", message)) <= secrets.keys()
        published_ports = {port.rpartition(":")[0].rpartition(":")[2] for port in ports()}
        assert set(re.findall(r"http://localhost:(\d+)", message)) == published_ports

    def test_the_tunnel_forwards_to_the_controller(self) -> None:
        [endpoint] = yaml.safe_load((ROOT / "jenkins/ngrok.yml").read_text())["endpoints"]
        address = urlsplit(endpoint["upstream"]["url"])
        assert (address.hostname, address.port) == ("controller", 8080)
        assert set(SERVICES["tunnel"]["networks"]) & set(SERVICES["controller"]["networks"])
        [volume] = SERVICES["tunnel"]["volumes"]
        assert volume["target"] in SERVICES["tunnel"]["command"]


def ports() -> list[str]:
    return [port for service in SERVICES.values() for port in service.get("ports", [])]


class TestPermissions:
    def test_ports_are_bound_to_localhost(self) -> None:
        assert ports()
        assert all(port.startswith("127.0.0.1:") for port in ports())

    @EACH_SERVICE
    def test_no_service_has_capabilities(self, name: str) -> None:
        service = SERVICES[name]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service.keys() & {"cap_add", "privileged", "devices", "pid", "ipc", "userns_mode"}

    @EACH_SERVICE
    def test_logs_and_memory_are_limited(self, name: str) -> None:
        assert SERVICES[name]["logging"]["options"].keys() == {"max-size", "max-file"}
        assert re.fullmatch(r"\d+[mg]", SERVICES[name]["mem_limit"])

    def test_only_git_and_the_traffic_policy_are_mounted_from_the_host_and_read_only(self) -> None:
        mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
        binds = [mount for mount in mounts if isinstance(mount, dict)]
        assert sorted(mount["source"] for mount in binds) == ["../.git", "ngrok.yml"]
        assert all(
            mount["read_only"] and mount["bind"] == {"create_host_path": False, "selinux": "z"} for mount in binds
        )
        volumes = {mount.partition(":")[0] for mount in mounts if isinstance(mount, str)}
        assert volumes == STACK["volumes"].keys()

    def test_builds_cannot_reach_the_database_or_the_store(self) -> None:
        assert STACK["networks"]["store"] == {"internal": True}
        assert SERVICES["postgres"]["networks"] == SERVICES["s3"]["networks"] == ["store"]
        assert [name for name, service in SERVICES.items() if "store" in service.get("networks", [])] == [
            *("mlflow", "postgres", "s3"),
        ]

    def test_volumes_are_at_the_data_folders_of_the_images(self) -> None:
        places = {name: SERVICES[name]["volumes"][0].partition(":")[2] for name in ("agent", "serving", "controller")}
        assert places == {
            "agent": environment(stage_of("agent"))["JENKINS_AGENT_WORKDIR"],
            "serving": all_of(stage_of("serving"), "VOLUME")[0],
            "controller": "/var/jenkins_home",
        }


class TestRepository:
    """Git's server, started with the command of the service."""

    @pytest.fixture
    def daemon(self) -> Iterator[str]:
        """Serve a repository that belongs to another user; yield the URL."""
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
            shutil.copytree(f"{folder}/srv/project.git", f"{folder}/other.git")
            other_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
            command = [part.replace("/srv", f"{folder}/srv") for part in service["entrypoint"]]
            command[2:2] = ["--listen=127.0.0.1", f"--port={port}"]
            variables = {"PATH": os.environ["PATH"], **service["environment"]}
            with subprocess.Popen([*other_user, *command], env=variables, stderr=subprocess.DEVNULL) as process:
                yield f"git://127.0.0.1:{port}"
                process.terminate()

    def is_healthy(self, address: str) -> bool:
        command = [
            part.replace("git://127.0.0.1", address) for part in SERVICES["repository"]["healthcheck"]["test"][1:]
        ]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def test_a_healthy_repository_can_be_cloned(self, daemon: str, tmp_path: Path) -> None:
        wait_until(lambda: self.is_healthy(daemon), "the repository is healthy")
        default = interpolate(SERVICES["controller"]["environment"]["CT_REPOSITORY"], {})
        address = default.replace("git://repository", daemon)
        subprocess.run(["git", "clone", "--quiet", "--branch=main", address, tmp_path / "clone"], check=True)
        assert (tmp_path / "clone/.git").is_dir()

    def test_the_url_of_the_controller_is_the_mounted_repository(self) -> None:
        [volume] = SERVICES["repository"]["volumes"]
        address = urlsplit(interpolate(SERVICES["controller"]["environment"]["CT_REPOSITORY"], {}))
        assert (address.hostname, volume["target"]) == ("repository", f"/srv{address.path}")

    def test_the_repository_is_read_only_and_the_only_one(self, daemon: str, tmp_path: Path) -> None:
        wait_until(lambda: self.is_healthy(daemon), "the repository is healthy")
        subprocess.run(["git", "clone", "--quiet", f"{daemon}/project.git", tmp_path / "clone"], check=True)
        for command in (["push", "origin", "HEAD:refs/heads/other"], ["ls-remote", f"{daemon}/../other.git"]):
            process = subprocess.run(["git", *command], cwd=tmp_path / "clone", capture_output=True, check=False)
            assert process.returncode != 0


class TestStore:
    def test_the_bucket_is_created_at_the_start(self, tmp_path: Path) -> None:
        """With a stub of the gateway that prints its arguments and the folder."""
        program = tmp_path / "versitygw"
        program.write_text('#!/bin/sh\necho "$@"\nls "$5"\n')
        program.chmod(0o755)
        command = [part.replace("/data", f"{tmp_path}/data") for part in SERVICES["s3"]["entrypoint"]]
        variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        process = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
        bucket = SERVICES["mlflow"]["environment"]["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://")
        assert process.stdout.splitlines() == [f"--quiet --health /health posix {tmp_path}/data", bucket]

    def test_mlflow_has_the_key_of_the_store(self) -> None:
        store, mlflow = SERVICES["s3"]["environment"], SERVICES["mlflow"]["environment"]
        assert store["ROOT_ACCESS_KEY_ID"] == mlflow["AWS_ACCESS_KEY_ID"]
        assert store["ROOT_SECRET_ACCESS_KEY"] == mlflow["AWS_SECRET_ACCESS_KEY"]

    def test_the_database_reads_its_password_from_a_file(self) -> None:
        service = SERVICES["postgres"]
        [name] = service["secrets"]
        assert service["environment"]["POSTGRES_PASSWORD_FILE"] == f"/run/secrets/{name}"


@contextmanager
def controller(status: int, body: str, requests: list[tuple[str, str | None]]) -> Iterator[str]:
    """Respond to requests about the agent, and record them; yield the URL."""

    def respond(request: Request) -> tuple[int, str]:
        requests.append((request.path, request.headers["Authorization"]))
        return status, body

    with http_stub(respond) as address:
        yield f"{address}/"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is in the image, but not on this machine")
@pytest.mark.parametrize(
    ("status", "body", "healthy"),
    [
        (200, '{"_class":"hudson.slaves.SlaveComputer","offline":false}', True),
        (200, '{"_class":"hudson.slaves.SlaveComputer","offline":true}', False),
        (401, "", False),
        (503, "Please wait", False),
    ],
    ids=["connected", "not connected", "wrong password", "starting"],
)
def test_the_agent_is_healthy_if_it_is_connected_to_the_controller(status: int, body: str, healthy: bool) -> None:
    kind, script = SERVICES["agent"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    requests: list[tuple[str, str | None]] = []
    with controller(status, body, requests) as address:
        variables = {**environment(stage_of("agent")), "JENKINS_URL": address, "JENKINS_AGENT_PASSWORD": 'p"\\ :s'}
        process = subprocess.run(
            ["sh", "-c", script.replace("$$", "$")],
            env={"PATH": os.environ["PATH"], **variables},
            capture_output=True,
            check=False,
        )
    assert (process.returncode == 0) == healthy
    credentials = base64.b64encode(b'agent:p"\\ :s').decode()
    assert requests == [("/computer/agent/api/json?tree=offline", f"Basic {credentials}")]
