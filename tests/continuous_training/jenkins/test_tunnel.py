"""The tunnel: a real pyngrok with an ngrok of this machine, which opens none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

import ngrok
from conftest import RECEIVES_SIGINT, ROOT, wait_until

pytest.importorskip("pyngrok", reason="pyngrok is not installed")

TOKEN = "2abcDEF_secretsecretsecret"
RULES = yaml.safe_load((ROOT / "jenkins/ngrok.yml").read_text())
[ENDPOINT] = RULES["endpoints"]


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder where ngrok notes what it was asked, and the environment of `ct tunnel`."""
    monkeypatch.setenv("NGROK_TEST", str(tmp_path))
    monkeypatch.setenv("NGROK_AUTHTOKEN", TOKEN)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NGROK_API_KEY", raising=False)
    installed(tmp_path, monkeypatch)
    return tmp_path


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str = "ngrok") -> None:
    program = folder / kind
    program.write_text(f"#!{sys.executable}\n{Path(ngrok.__file__).read_text()}")
    program.chmod(0o755)
    monkeypatch.setenv("PYNGROK_NGROK_PATH", str(program))


def started(*arguments: str, folder: Path = ROOT) -> subprocess.Popen[str]:
    """Start `ct tunnel`, in a session of its own, as a terminal has it."""
    command = [*RECEIVES_SIGINT, sys.executable, str(ROOT / "scripts/tunnel.py"), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def failed(folder: Path = ROOT) -> str:
    """Run `ct tunnel` to its end, which is an error; return it."""
    process = started(folder=folder)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 1, message
    return message


def gone(noted: Path) -> bool:
    return not psutil.pid_exists(int((noted / "pid").read_text()))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_it_says_where_webhooks_go_and_leaves_no_process_when_it_is_ended(
    noted: Path, number: signal.Signals, code: int
) -> None:
    with started("--jenkins", "http://localhost:9090") as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(4)]
        alive = not gone(noted)
        os.killpg(process.pid, number)
        _, message = process.communicate(timeout=60)
    assert alive
    assert told[0].startswith(f"{ngrok.ADDRESS} forwards to http://localhost:9090")
    assert told[1].endswith(f": {ngrok.ADDRESS}/github-webhook/\n")
    assert told[2].endswith(f": {ngrok.ADDRESS}/generic-webhook-trigger/invoke\n")
    assert (process.returncode, message) == (code, "")
    wait_until(lambda: gone(noted), "ngrok has ended")


class TestWhatNgrokIsAsked:
    @pytest.fixture
    def asked(self, noted: Path) -> dict[str, object]:
        with started() as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.terminate()
        return dict(json.loads((noted / "asked").read_text()))

    def test_it_goes_to_this_machines_jenkins(self, asked: dict[str, object]) -> None:
        assert asked["upstream"] == {"url": "http://localhost:8080"}

    def test_it_keeps_all_but_webhooks_out_as_the_tunnel_of_the_stack_does(self, asked: dict[str, object]) -> None:
        assert asked["traffic_policy"] == ENDPOINT["traffic_policy"]

    @pytest.mark.usefixtures("asked")
    def test_the_token_is_on_no_command_line(self, noted: Path) -> None:
        called = (noted / "called").read_text()
        assert called.split("\n") == ["start", "--none", "--log", "stdout", "--config", "jenkins/ngrok.yml"]

    @pytest.mark.usefixtures("asked")
    def test_nothing_is_written_into_the_users_own_settings_of_ngrok(self, noted: Path) -> None:
        assert {path.name for path in noted.iterdir()} == {"asked", "called", "pid", "ngrok"}


class TestRules:
    def test_only_posts_to_the_two_webhooks_pass(self) -> None:
        [rule] = ENDPOINT["traffic_policy"]["on_http_request"]
        assert rule["actions"] == [{"type": "deny", "config": {"status_code": 404}}]
        paths = "(req.url.path == '/github-webhook/' || req.url.path == '/generic-webhook-trigger/invoke')"
        assert rule["expressions"] == [f"!(req.method == 'POST' && {paths})"]

    def test_there_is_no_token_in_them(self) -> None:
        assert RULES.keys() == {"version", "endpoints"}


class TestRefusals:
    def test_without_a_token_it_says_where_to_get_one(self, noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NGROK_AUTHTOKEN")
        assert failed().startswith("ct tunnel: error: NGROK_AUTHTOKEN is not set: ngrok shows it at https://")
        assert not (noted / "called").exists()

    def test_a_wrong_token_is_told_and_not_shown(self, noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        installed(noted, monkeypatch, "ngrok-wrong-token")
        message = failed()
        assert message == f"ct tunnel: error: ngrok cannot open a tunnel: {ngrok.WRONG.format('****')}\n"

    def test_a_tunnel_that_is_refused_is_told_in_ngroks_words(
        self, noted: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        installed(noted, monkeypatch, "ngrok-refusing")
        assert failed() == f"ct tunnel: error: ngrok cannot open a tunnel: {ngrok.REFUSED}\n"
        wait_until(lambda: gone(noted), "ngrok has ended")

    @pytest.mark.parametrize(
        "rules",
        ["", "version: 3\n", "endpoints: [{name: webhooks}]\n", "endpoints: [{name: webhooks, traffic_policy: {}}]\n"],
    )
    def test_without_rules_there_is_no_tunnel_through_which_all_of_jenkins_would_be_seen(
        self, noted: Path, rules: str
    ) -> None:
        (noted / "jenkins").mkdir()
        (noted / "jenkins/ngrok.yml").write_text(rules)
        message = "ct tunnel: error: jenkins/ngrok.yml has no traffic policy for its endpoint 'webhooks'"
        assert failed(noted).startswith(message)
        assert not (noted / "called").exists()

    def test_an_ngrok_that_ends_by_itself_is_told_without_the_token(
        self, noted: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        installed(noted, monkeypatch, "ngrok-dying")
        message = failed()
        assert message.startswith("ct tunnel: error: ngrok exited with code 7")
        assert TOKEN not in message

    def test_an_ngrok_that_cannot_be_downloaded_is_told(self, noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYNGROK_NGROK_PATH", str(noted / "nowhere/ngrok"))
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody is there, so that nothing is asked outside
        message = failed()
        assert message.startswith(
            "ct tunnel: error: ngrok cannot open a tunnel: An error occurred while downloading ngrok"
        )

    @pytest.mark.usefixtures("noted")
    def test_a_missing_pyngrok_is_named_with_the_command_that_installs_it(self) -> None:
        without = "import sys; sys.modules['pyngrok'] = None; import runpy; sys.argv = sys.argv[1:]; "
        run = [sys.executable, "-c", f"{without}runpy.run_path(sys.argv[0], run_name='__main__')", "scripts/tunnel.py"]
        done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("ct tunnel: error: pyngrok is not installed: run ")
        assert done.stderr.endswith(" -m pip install pyngrok\n")
