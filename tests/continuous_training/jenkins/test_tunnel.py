"""The tunnel: pyngrok with a stub of ngrok that opens no tunnel."""

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
from conftest import RECEIVES_SIGINT, ROOT, TIMEOUT, wait_until

pytest.importorskip("pyngrok", reason="pyngrok is not installed")

TOKEN = "2abcDEF_secretsecretsecret"
RULES = yaml.safe_load((ROOT / "jenkins/ngrok.yml").read_text())
[ENDPOINT] = RULES["endpoints"]


@pytest.fixture
def ngrok_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which the stub records its arguments and requests."""
    set_variables(tmp_path, monkeypatch)
    return tmp_path


def set_variables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables of `ct tunnel` for a stub in a folder."""
    monkeypatch.setenv("NGROK_TEST", str(folder))
    monkeypatch.setenv("NGROK_AUTHTOKEN", TOKEN)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("NGROK_API_KEY", raising=False)
    install_ngrok(folder, monkeypatch)


def install_ngrok(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str = "ngrok") -> None:
    program = folder / kind
    program.write_text(f"#!{sys.executable}\n{Path(ngrok.__file__).read_text()}")
    program.chmod(0o755)
    monkeypatch.setenv("PYNGROK_NGROK_PATH", str(program))


def start_tunnel(*arguments: str, folder: Path = ROOT) -> subprocess.Popen[str]:
    """Start `ct tunnel` in a separate session, as in a terminal."""
    command = [*RECEIVES_SIGINT, sys.executable, str(ROOT / "scripts/tunnel.py"), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def tunnel_error(folder: Path = ROOT) -> str:
    """Run `ct tunnel`, which fails; return its error message."""
    process = start_tunnel(folder=folder)
    _, message = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1, message
    return message


def has_ended(ngrok_folder: Path) -> bool:
    return not psutil.pid_exists(int((ngrok_folder / "pid").read_text()))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_the_output_has_the_webhook_urls_and_ngrok_ends_with_the_command(
    ngrok_folder: Path, number: signal.Signals, code: int
) -> None:
    with start_tunnel("--jenkins", "http://localhost:9090") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        is_running = not has_ended(ngrok_folder)
        os.killpg(process.pid, number)
        _, message = process.communicate(timeout=TIMEOUT)
    assert is_running
    assert lines[0].startswith(f"{ngrok.ADDRESS} forwards to http://localhost:9090")
    assert lines[1].endswith(f": {ngrok.ADDRESS}/github-webhook/\n")
    assert lines[2].endswith(f": {ngrok.ADDRESS}/generic-webhook-trigger/invoke\n")
    assert (process.returncode, message) == (code, "")
    wait_until(lambda: has_ended(ngrok_folder), "ngrok has ended")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tunnel that was opened and closed."""
    folder = tmp_path_factory.mktemp("ngrok")
    with pytest.MonkeyPatch.context() as patch:
        set_variables(folder, patch)
        with start_tunnel() as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.terminate()
    return folder


@pytest.fixture(scope="module")
def request_to_ngrok(finished: Path) -> dict[str, object]:
    return dict(json.loads((finished / "request").read_text()))


class TestRequestToNgrok:
    def test_the_tunnel_forwards_to_jenkins_on_this_machine(self, request_to_ngrok: dict[str, object]) -> None:
        assert request_to_ngrok["upstream"] == {"url": "http://localhost:8080"}

    def test_the_tunnel_has_the_traffic_policy_of_the_stack(self, request_to_ngrok: dict[str, object]) -> None:
        assert request_to_ngrok["traffic_policy"] == ENDPOINT["traffic_policy"]

    def test_the_token_is_on_no_command_line(self, finished: Path) -> None:
        arguments = (finished / "arguments").read_text()
        assert arguments.split("\n") == ["start", "--none", "--log", "stdout", "--config", "jenkins/ngrok.yml"]

    def test_the_users_settings_of_ngrok_are_not_changed(self, finished: Path) -> None:
        assert {path.name for path in finished.iterdir()} == {"request", "arguments", "pid", "ngrok"}


class TestTrafficPolicy:
    def test_only_posts_to_the_two_webhooks_are_allowed(self) -> None:
        [rule] = ENDPOINT["traffic_policy"]["on_http_request"]
        assert rule["actions"] == [{"type": "deny", "config": {"status_code": 404}}]
        paths = "(req.url.path == '/github-webhook/' || req.url.path == '/generic-webhook-trigger/invoke')"
        assert rule["expressions"] == [f"!(req.method == 'POST' && {paths})"]

    def test_the_file_contains_no_token(self) -> None:
        assert RULES.keys() == {"version", "endpoints"}


class TestErrors:
    def test_a_missing_token_is_reported_with_the_page_that_has_it(
        self, ngrok_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("NGROK_AUTHTOKEN")
        assert tunnel_error().startswith("ct tunnel: error: NGROK_AUTHTOKEN is not set: ngrok shows it at https://")
        assert not (ngrok_folder / "arguments").exists()

    def test_a_wrong_token_is_reported_and_not_shown(self, ngrok_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install_ngrok(ngrok_folder, monkeypatch, "ngrok-wrong-token")
        message = tunnel_error()
        assert message == f"ct tunnel: error: ngrok cannot open a tunnel: {ngrok.WRONG_TOKEN.format('****')}\n"

    def test_a_rejected_tunnel_is_reported_with_ngroks_message(
        self, ngrok_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install_ngrok(ngrok_folder, monkeypatch, "ngrok-rejecting")
        assert tunnel_error() == f"ct tunnel: error: ngrok cannot open a tunnel: {ngrok.ALREADY_ONLINE}\n"
        wait_until(lambda: has_ended(ngrok_folder), "ngrok has ended")

    @pytest.mark.parametrize(
        "rules",
        ["", "version: 3\n", "endpoints: [{name: webhooks}]\n", "endpoints: [{name: webhooks, traffic_policy: {}}]\n"],
    )
    def test_no_tunnel_is_opened_without_a_traffic_policy(self, ngrok_folder: Path, rules: str) -> None:
        (ngrok_folder / "jenkins").mkdir()
        (ngrok_folder / "jenkins/ngrok.yml").write_text(rules)
        message = "ct tunnel: error: jenkins/ngrok.yml has no traffic policy for its endpoint 'webhooks'"
        assert tunnel_error(ngrok_folder).startswith(message)
        assert not (ngrok_folder / "arguments").exists()

    def test_an_ngrok_that_exits_is_reported_without_the_token(
        self, ngrok_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install_ngrok(ngrok_folder, monkeypatch, "ngrok-exiting")
        message = tunnel_error()
        assert message.startswith("ct tunnel: error: ngrok exited with code 7")
        assert TOKEN not in message

    def test_an_ngrok_that_cannot_be_downloaded_is_reported(
        self, ngrok_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYNGROK_NGROK_PATH", str(ngrok_folder / "nowhere/ngrok"))
        monkeypatch.setenv(
            "HTTPS_PROXY", "http://127.0.0.1:9"
        )  # an unused port, so that no request leaves this machine
        message = tunnel_error()
        assert message.startswith(
            "ct tunnel: error: ngrok cannot open a tunnel: An error occurred while downloading ngrok"
        )

    @pytest.mark.usefixtures("ngrok_folder")
    def test_a_missing_pyngrok_is_reported_with_the_command_that_installs_it(self) -> None:
        remove_pyngrok = "import sys; sys.modules['pyngrok'] = None; import runpy; sys.argv = sys.argv[1:]; "
        command = [
            sys.executable,
            "-c",
            f"{remove_pyngrok}runpy.run_path(sys.argv[0], run_name='__main__')",
            "scripts/tunnel.py",
        ]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert process.returncode == 1
        assert process.stderr == "ct tunnel: error: pyngrok is not installed: pip install '.[tunnel]'\n"
