"""The controller's and the agent's images, as far as they can be judged without building them."""

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

from conftest import ROOT
from dockerfile import Stage, all_of, copied, environment, sent, stages
from listening import Heard, listening
from update_center import CUT

DOCKERFILE = ROOT / "Dockerfile.jenkins"
CONTROLLER, AGENT = stages(DOCKERFILE)
BOTH = pytest.mark.parametrize("stage", [CONTROLLER, AGENT], ids=["controller", "agent"])
COPIED = copied(CONTROLLER) + copied(AGENT)
CORE = json.loads(CUT.read_text())["core"]

with_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is in the images, but not on this machine")


def the(stage: Stage, word: str) -> str:
    """Return the last such instruction of a stage: the one that counts."""
    return all_of(stage, word)[-1]


def java_options() -> list[str]:
    """Take Jenkins' options apart as the image's own start script does."""
    command = ["xargs", "printf", r"%s\0"]
    given = environment(CONTROLLER)["JENKINS_JAVA_OPTS"]
    done = subprocess.run(command, input=given, text=True, capture_output=True, check=True)
    return done.stdout.rstrip("\0").split("\0")


@contextmanager
def jenkins(*answers: tuple[int, str], asked: list[tuple[str, str | None]] | None = None) -> Iterator[str]:
    """Answer as Jenkins does, with the last answer for ever; gives the address."""
    waiting = list(answers)

    def answer(heard: Heard) -> tuple[int, str]:
        if asked is not None:
            asked.append((heard.path, heard.headers["Authorization"]))
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    with listening(answer) as address:
        yield f"{address}/"


class TestWhatGoesIn:
    def test_there_are_two_targets(self) -> None:
        assert [the(stage, "FROM").partition(" AS ")[2] for stage in (CONTROLLER, AGENT)] == ["controller", "agent"]

    def test_the_controller_is_the_long_term_release_that_the_plugins_are_pinned_for(self) -> None:
        assert the(CONTROLLER, "FROM").split()[0] == f"jenkins/jenkins:{CORE}-lts-jdk21"

    def test_the_agent_is_pinned_and_has_the_same_java(self) -> None:
        assert re.fullmatch(r"jenkins/inbound-agent:\d+\.v[0-9a-f_]+-\d+-jdk21", the(AGENT, "FROM").split()[0])

    @pytest.mark.parametrize("source", [source for source, _ in COPIED])
    def test_what_is_copied_is_there_and_is_sent(self, source: str) -> None:
        assert source in sent(DOCKERFILE, ROOT)

    @pytest.mark.parametrize(
        "stray",
        [
            *(".git/config", ".ct/mlflow.db", ".venv/bin/python", ".env", "jenkins/.env", "key.pem", "jenkins/key.pem"),
            *("Jenkinsfile", "jenkins/reap.Jenkinsfile", "src/flight_delays/model.py", "README.md"),
        ],
    )
    def test_all_else_stays_out(self, tmp_path: Path, stray: str) -> None:
        needed = {source for source, _ in COPIED}
        for path in (stray, *needed):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        assert sent(DOCKERFILE, tmp_path) == needed

    @BOTH
    def test_no_layer_is_given_a_secret(self, stage: Stage) -> None:
        named = [*environment(stage), *all_of(stage, "ARG")]
        assert not [name for name in named if re.search("TOKEN|SECRET|PASS|KEY|CREDENTIAL|_URI|_URL", name.upper())]
        assert not re.search(r"https?://\S+@", DOCKERFILE.read_text())

    @BOTH
    def test_it_runs_as_a_user_whose_number_is_not_roots(self, stage: Stage) -> None:
        assert the(stage, "USER") == "1000:1000"


class TestController:
    def test_it_installs_the_pins_and_raises_none(self) -> None:
        (installing,) = all_of(CONTROLLER, "RUN")
        place = dict(COPIED)["jenkins/plugins.txt"]
        assert installing == f"jenkins-plugin-cli --plugin-file {place} --latest false"

    def test_its_configuration_is_not_on_the_volume_where_an_older_one_would_stay(self) -> None:
        place = environment(CONTROLLER)["CASC_JENKINS_CONFIG"]
        assert place == f"{dict(COPIED)['casc.yaml']}casc.yaml"
        assert not place.startswith("/var/jenkins_home")

    def test_nobody_has_to_click_through_a_wizard(self) -> None:
        assert "-Djenkins.install.runSetupWizard=false" in java_options()

    def test_published_pages_may_have_styles_within_themselves_and_nothing_else(self) -> None:
        policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'"
        assert f"-Dhudson.model.DirectoryBrowserSupport.CSP={policy}" in java_options()

    def test_the_report_needs_no_more_than_that(self) -> None:
        report = (ROOT / "src/continuous_training/reports/report.html.j2").read_text()
        assert "<style>" in report
        assert not re.search(r"<(script|img|iframe|object|embed|form|base)\b|\bsrc=|\son\w+=|url\(|@import", report)
        assert re.findall(r"<link [^>]*>", report) == ['<link rel="icon" href="data:,">']

    def test_it_has_no_port_for_agents_beside_that_of_its_pages(self) -> None:
        assert environment(CONTROLLER)["JENKINS_SLAVE_AGENT_PORT"] == "-1"

    def test_a_newer_image_replaces_the_plugins_on_an_older_ones_volume(self) -> None:
        given = environment(CONTROLLER)
        assert given["PLUGINS_FORCE_UPGRADE"] == given["TRY_UPGRADE_IF_NO_MARKER"] == "true"

    @with_curl
    @pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)], ids=["up", "starting"])
    def test_it_is_healthy_when_one_can_log_in(self, status: int, healthy: bool) -> None:
        asked: list[tuple[str, str | None]] = []
        command = the(CONTROLLER, "HEALTHCHECK").partition("CMD ")[2]
        with jenkins((status, "Sign in"), asked=asked) as address:
            found = subprocess.run(
                json.loads(command.replace("http://127.0.0.1:8080/", address)), capture_output=True, check=False
            )
        assert (found.returncode == 0, found.stdout) == (healthy, b"")
        assert asked == [("/login", None)]


SECRET = "5d" * 32
JNLP = (
    "<jnlp><application-desc><argument>{}</argument><argument>agent</argument><argument>-webSocket</argument>"
    "<argument>-workDir</argument><argument>/home/jenkins/agent</argument></application-desc></jnlp>"
)
TOLD = (200, JNLP.format(SECRET))


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Make a folder with the agent's own start script, and with programs that tell how they were called."""
    (connect,) = [one for one in AGENT if one.word == "COPY" and one.here]
    agent = '#!/bin/sh\nprintf "%s\\n" "$@" >called\nenv >environment\n'
    tini = '#!/bin/sh\nshift\nexec "$@"\n'
    for name, text in {"connect": connect.here, "tini": tini, "jenkins-agent": agent, "sleep": "#!/bin/sh\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def connect(machine: Path, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [machine / "connect", *arguments],
        cwd=machine,
        env={"PATH": f"{machine}:{os.defpath}", "HOME": str(machine), **environment(AGENT), **given},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def inherited(machine: Path) -> dict[str, str]:
    """Return the environment that the agent, and so every build, was given."""
    return dict(line.split("=", 1) for line in (machine / "environment").read_text().splitlines())


USER = {"JENKINS_AGENT_USER": "agent", "JENKINS_AGENT_PASSWORD": 'p"\\ :s'}


class TestAgent:
    @pytest.mark.parametrize("package", ["git", "python3", "python3-venv"])
    def test_it_has_what_the_pipeline_needs(self, package: str) -> None:
        (installing,) = all_of(AGENT, "RUN")
        assert package in installing.split()

    def test_what_builds_leave_behind_is_buried(self) -> None:
        assert json.loads(the(AGENT, "ENTRYPOINT")) == ["connect"]
        (script,) = [one.here for one in AGENT if one.word == "COPY" and one.here]
        assert 'exec tini -- jenkins-agent "$@"' in script
        assert "tini" in the(AGENT, "RUN").split()

    def test_it_is_the_agent_that_the_controller_expects(self) -> None:
        expected = yaml.safe_load((ROOT / "casc.yaml").read_text())["jenkins"]
        (node,) = [each["permanent"] for each in expected["nodes"]]
        given = environment(AGENT)
        assert (given["JENKINS_AGENT_NAME"], given["JENKINS_AGENT_WORKDIR"]) == (node["name"], node["remoteFS"])
        (user,) = [
            each for each in expected["securityRealm"]["local"]["users"] if each["id"] == given["JENKINS_AGENT_USER"]
        ]
        assert user["password"] == "${JENKINS_AGENT_PASSWORD}"

    def test_its_start_script_can_be_run(self) -> None:
        assert "--chmod=755 <<'END' /usr/local/bin/connect" in all_of(AGENT, "COPY")

    @with_curl
    def test_it_asks_for_its_secret_and_connects_over_web_sockets(self, machine: Path) -> None:
        asked: list[tuple[str, str | None]] = []
        with jenkins(TOLD, asked=asked) as address:
            assert connect(machine, "-noKeepAlive", JENKINS_URL=address, **USER).returncode == 0
        encoded = base64.b64encode(":".join(USER.values()).encode()).decode()
        assert asked == [("/computer/agent/jenkins-agent.jnlp", f"Basic {encoded}")]
        found = inherited(machine)
        assert Path(found["JENKINS_SECRET"].removeprefix("@")).read_text().strip() == SECRET
        assert (found["JENKINS_URL"], found["JENKINS_AGENT_NAME"]) == (address, "agent")
        assert (found["JENKINS_WEB_SOCKET"], found["JENKINS_AGENT_WORKDIR"]) == ("true", "/home/jenkins/agent")
        assert (machine / "called").read_text() == "-noKeepAlive\n"

    @with_curl
    def test_no_build_and_no_log_sees_a_secret(self, machine: Path) -> None:
        with jenkins((401, ""), TOLD) as address:
            done = connect(machine, JENKINS_URL=address, **USER)
        assert not USER.keys() & inherited(machine).keys()
        seen = done.stdout + done.stderr + (machine / "environment").read_text() + (machine / "called").read_text()
        assert SECRET not in seen
        assert USER["JENKINS_AGENT_PASSWORD"] not in seen
        assert Path(inherited(machine)["JENKINS_SECRET"].removeprefix("@")).stat().st_mode & 0o777 == 0o600

    @with_curl
    @pytest.mark.parametrize(
        "answer",
        [(503, "Please wait"), (404, "no such agent"), (403, ""), (200, "<html>Please sign in</html>"), (302, "")],
        ids=["starting", "no such agent", "forbidden", "a page", "elsewhere"],
    )
    def test_it_says_so_and_goes_on_asking_until_it_is_told(self, machine: Path, answer: tuple[int, str]) -> None:
        with jenkins(answer, answer, TOLD) as address:
            done = connect(machine, JENKINS_URL=address, **USER)
        message = f"connect: {address} has no secret for the agent agent yet"
        assert done.stderr.count(message) == 2
        assert Path(inherited(machine)["JENKINS_SECRET"].removeprefix("@")).read_text().strip() == SECRET

    def test_a_secret_that_is_given_is_used_as_it_is(self, machine: Path) -> None:
        assert connect(machine, JENKINS_URL="http://x.invalid/", JENKINS_SECRET="@/run/secrets/agent").returncode == 0
        assert inherited(machine)["JENKINS_SECRET"] == "@/run/secrets/agent"

    @pytest.mark.parametrize("missing", ["JENKINS_URL", "JENKINS_AGENT_PASSWORD"])
    def test_what_is_missing_is_named_and_not_waited_for(self, machine: Path, missing: str) -> None:
        given = {"JENKINS_URL": "http://x.invalid/", **USER}
        del given[missing]
        done = connect(machine, **given)
        assert done.returncode != 0
        assert missing in done.stderr
        assert not (machine / "called").exists()
