"""The images of the controller and the agent, without building them."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, TIMEOUT
from dockerfile import Stage, all_of, build_context, copied_files, environment, stages
from http_stub import Request, http_stub
from update_center import REDUCED

DOCKERFILE = ROOT / "Dockerfile.jenkins"
CONTROLLER, AGENT = stages(DOCKERFILE)
BOTH = pytest.mark.parametrize("stage", [CONTROLLER, AGENT], ids=["controller", "agent"])
COPIED_FILES = copied_files(CONTROLLER) + copied_files(AGENT)
CORE = json.loads(REDUCED.read_text())["core"]

with_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is in the images, but not on this machine")


def last(stage: Stage, word: str) -> str:
    """Return the arguments of the last such instruction of a stage, which is in effect."""
    return all_of(stage, word)[-1]


def java_options() -> list[str]:
    """Split Jenkins' options as the start script of the image does."""
    command = ["xargs", "printf", r"%s\0"]
    options = environment(CONTROLLER)["JENKINS_JAVA_OPTS"]
    process = subprocess.run(command, input=options, text=True, capture_output=True, check=True)
    return process.stdout.rstrip("\0").split("\0")


@contextmanager
def jenkins(*responses: tuple[int, str], requests: list[tuple[str, str | None]] | None = None) -> Iterator[str]:
    """Serve these responses, the last one repeated; yield the URL."""
    remaining = list(responses)

    def respond(request: Request) -> tuple[int, str]:
        if requests is not None:
            requests.append((request.path, request.headers["Authorization"]))
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    with http_stub(respond) as address:
        yield f"{address}/"


class TestStages:
    def test_there_are_two_targets(self) -> None:
        assert [last(stage, "FROM").partition(" AS ")[2] for stage in (CONTROLLER, AGENT)] == ["controller", "agent"]

    def test_the_controller_is_the_lts_release_of_the_pinned_plugins(self) -> None:
        assert last(CONTROLLER, "FROM").split()[0] == f"jenkins/jenkins:{CORE}-lts-jdk21"

    def test_the_agent_is_pinned_and_has_the_same_java(self) -> None:
        assert re.fullmatch(r"jenkins/inbound-agent:\d+\.v[0-9a-f_]+-\d+-jdk21", last(AGENT, "FROM").split()[0])

    @pytest.mark.parametrize("source", [source for source, _ in COPIED_FILES])
    def test_copied_files_are_in_the_build_context(self, source: str) -> None:
        assert source in build_context(DOCKERFILE, ROOT)

    @pytest.mark.parametrize(
        "path",
        [
            *(".git/config", ".ct/mlflow.db", ".venv/bin/python", ".env", "jenkins/.env", "key.pem", "jenkins/key.pem"),
            *("Jenkinsfile", "jenkins/reap.Jenkinsfile", "src/flight_delays/model.py", "README.md"),
        ],
    )
    def test_other_files_are_not_in_the_build_context(self, tmp_path: Path, path: str) -> None:
        sources = {source for source, _ in COPIED_FILES}
        for name in (path, *sources):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        assert build_context(DOCKERFILE, tmp_path) == sources

    @BOTH
    def test_no_layer_has_a_secret(self, stage: Stage) -> None:
        variables = [*environment(stage), *all_of(stage, "ARG")]
        assert not [name for name in variables if re.search("TOKEN|SECRET|PASS|KEY|CREDENTIAL|_URI|_URL", name.upper())]
        assert not re.search(r"https?://\S+@", DOCKERFILE.read_text())

    @BOTH
    def test_the_user_is_not_root(self, stage: Stage) -> None:
        assert last(stage, "USER") == "1000:1000"


class TestController:
    def test_exactly_the_pinned_plugins_are_installed(self) -> None:
        (install,) = all_of(CONTROLLER, "RUN")
        place = dict(COPIED_FILES)["jenkins/plugins.txt"]
        assert install == f"jenkins-plugin-cli --plugin-file {place} --latest false"

    def test_the_configuration_is_not_in_the_volume(self) -> None:
        place = environment(CONTROLLER)["CASC_JENKINS_CONFIG"]
        assert place == f"{dict(COPIED_FILES)['casc.yaml']}casc.yaml"
        assert not place.startswith("/var/jenkins_home")

    def test_the_setup_wizard_is_disabled(self) -> None:
        assert "-Djenkins.install.runSetupWizard=false" in java_options()

    def test_published_pages_can_have_inline_styles_only(self) -> None:
        policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'"
        assert f"-Dhudson.model.DirectoryBrowserSupport.CSP={policy}" in java_options()

    def test_the_report_needs_inline_styles_only(self) -> None:
        report = (ROOT / "src/continuous_training/reports/report.html.j2").read_text()
        assert "<style>" in report
        assert not re.search(r"<(script|img|iframe|object|embed|form|base)\b|\bsrc=|\son\w+=|url\(|@import", report)
        assert re.findall(r"<link [^>]*>", report) == ['<link rel="icon" href="data:,">']

    def test_there_is_no_separate_port_for_agents(self) -> None:
        assert environment(CONTROLLER)["JENKINS_SLAVE_AGENT_PORT"] == "-1"

    def test_a_newer_image_upgrades_the_plugins_in_the_volume(self) -> None:
        variables = environment(CONTROLLER)
        assert variables["PLUGINS_FORCE_UPGRADE"] == variables["TRY_UPGRADE_IF_NO_MARKER"] == "true"

    @with_curl
    @pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)], ids=["up", "starting"])
    def test_the_controller_is_healthy_if_the_login_page_is_served(self, status: int, healthy: bool) -> None:
        requests: list[tuple[str, str | None]] = []
        command = last(CONTROLLER, "HEALTHCHECK").partition("CMD ")[2]
        with jenkins((status, "Sign in"), requests=requests) as address:
            process = subprocess.run(
                json.loads(command.replace("http://127.0.0.1:8080/", address)), capture_output=True, check=False
            )
        assert (process.returncode == 0, process.stdout) == (healthy, b"")
        assert requests == [("/login", None)]


SECRET = "5d" * 32
JNLP = (
    "<jnlp><application-desc><argument>{}</argument><argument>agent</argument><argument>-webSocket</argument>"
    "<argument>-workDir</argument><argument>/home/jenkins/agent</argument></application-desc></jnlp>"
)
SECRET_PAGE = (200, JNLP.format(SECRET))


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Make a folder with the start script of the agent and stubs of programs, which record their arguments."""
    (connect,) = [instruction for instruction in AGENT if instruction.word == "COPY" and instruction.here_document]
    agent = '#!/bin/sh\nprintf "%s\\n" "$@" >arguments\nenv >environment\n'
    tini = '#!/bin/sh\nshift\nexec "$@"\n'
    for name, text in {
        "connect": connect.here_document,
        "tini": tini,
        "jenkins-agent": agent,
        "sleep": "#!/bin/sh\n",
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def connect(machine: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [machine / "connect", *arguments],
        cwd=machine,
        env={"PATH": f"{machine}:{os.defpath}", "HOME": str(machine), **environment(AGENT), **variables},
        text=True,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )


def agent_environment(machine: Path) -> dict[str, str]:
    """Return the environment of the agent, which every build inherits."""
    return dict(line.split("=", 1) for line in (machine / "environment").read_text().splitlines())


USER = {"JENKINS_AGENT_USER": "agent", "JENKINS_AGENT_PASSWORD": 'p"\\ :s'}


class TestAgent:
    @pytest.mark.parametrize("package", ["git", "python3", "python3-venv"])
    def test_the_packages_of_the_pipeline_are_installed(self, package: str) -> None:
        (install,) = all_of(AGENT, "RUN")
        assert package in install.split()

    def test_zombie_processes_of_builds_are_reaped(self) -> None:
        assert json.loads(last(AGENT, "ENTRYPOINT")) == ["connect"]
        (script,) = [
            instruction.here_document
            for instruction in AGENT
            if instruction.word == "COPY" and instruction.here_document
        ]
        assert 'exec tini -- jenkins-agent "$@"' in script
        assert "tini" in last(AGENT, "RUN").split()

    def test_the_agent_is_that_of_casc(self) -> None:
        casc = yaml.safe_load((ROOT / "casc.yaml").read_text())["jenkins"]
        (node,) = [item["permanent"] for item in casc["nodes"]]
        variables = environment(AGENT)
        assert (variables["JENKINS_AGENT_NAME"], variables["JENKINS_AGENT_WORKDIR"]) == (node["name"], node["remoteFS"])
        (user,) = [
            item for item in casc["securityRealm"]["local"]["users"] if item["id"] == variables["JENKINS_AGENT_USER"]
        ]
        assert user["password"] == "${JENKINS_AGENT_PASSWORD}"

    def test_the_start_script_is_executable(self) -> None:
        assert "--chmod=755 <<'END' /usr/local/bin/connect" in all_of(AGENT, "COPY")

    @with_curl
    def test_the_agent_requests_its_secret_and_connects_over_websocket(self, machine: Path) -> None:
        requests: list[tuple[str, str | None]] = []
        with jenkins(SECRET_PAGE, requests=requests) as address:
            assert connect(machine, "-noKeepAlive", JENKINS_URL=address, **USER).returncode == 0
        credentials = base64.b64encode(":".join(USER.values()).encode()).decode()
        assert requests == [("/computer/agent/jenkins-agent.jnlp", f"Basic {credentials}")]
        variables = agent_environment(machine)
        assert Path(variables["JENKINS_SECRET"].removeprefix("@")).read_text().strip() == SECRET
        assert (variables["JENKINS_URL"], variables["JENKINS_AGENT_NAME"]) == (address, "agent")
        assert (variables["JENKINS_WEB_SOCKET"], variables["JENKINS_AGENT_WORKDIR"]) == ("true", "/home/jenkins/agent")
        assert (machine / "arguments").read_text() == "-noKeepAlive\n"

    @with_curl
    def test_no_secret_is_in_the_environment_of_builds_or_in_the_log(self, machine: Path) -> None:
        with jenkins((401, ""), SECRET_PAGE) as address:
            process = connect(machine, JENKINS_URL=address, **USER)
        assert not USER.keys() & agent_environment(machine).keys()
        visible_text = (
            process.stdout
            + process.stderr
            + (machine / "environment").read_text()
            + (machine / "arguments").read_text()
        )
        assert SECRET not in visible_text
        assert USER["JENKINS_AGENT_PASSWORD"] not in visible_text
        assert Path(agent_environment(machine)["JENKINS_SECRET"].removeprefix("@")).stat().st_mode & 0o777 == 0o600

    @with_curl
    @pytest.mark.parametrize(
        "response",
        [(503, "Please wait"), (404, "no such agent"), (403, ""), (200, "<html>Please sign in</html>"), (302, "")],
        ids=["starting", "no such agent", "forbidden", "a page", "a redirection"],
    )
    def test_the_agent_repeats_the_request_until_there_is_a_secret(
        self, machine: Path, response: tuple[int, str]
    ) -> None:
        with jenkins(response, response, SECRET_PAGE) as address:
            process = connect(machine, JENKINS_URL=address, **USER)
        message = f"connect: {address} has no secret for the agent agent yet"
        assert process.stderr.count(message) == 2
        assert Path(agent_environment(machine)["JENKINS_SECRET"].removeprefix("@")).read_text().strip() == SECRET

    def test_a_secret_in_the_environment_is_used(self, machine: Path) -> None:
        assert connect(machine, JENKINS_URL="http://x.invalid/", JENKINS_SECRET="@/run/secrets/agent").returncode == 0
        assert agent_environment(machine)["JENKINS_SECRET"] == "@/run/secrets/agent"

    @pytest.mark.parametrize("missing", ["JENKINS_URL", "JENKINS_AGENT_PASSWORD"])
    def test_a_missing_variable_is_reported_at_once(self, machine: Path, missing: str) -> None:
        variables = {"JENKINS_URL": "http://x.invalid/", **USER}
        del variables[missing]
        process = connect(machine, **variables)
        assert process.returncode != 0
        assert missing in process.stderr
        assert not (machine / "arguments").exists()
