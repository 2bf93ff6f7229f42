"""`ct secrets`: random secrets in a file that only the owner can read and that git ignores."""

from __future__ import annotations

import runpy
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from conftest import ROOT, TIMEOUT
from continuous_training.fork_server.client import DEFAULTS
from continuous_training.jenkins import env_file, stack_secrets
from continuous_training.versions import signing

SCRIPT = ROOT / "scripts/secrets_.py"
ENV = Path("jenkins/.env")


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a checkout with the files that `ct secrets` reads."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # which git sets in a hook
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "jenkins").mkdir()
    shutil.copy(ROOT / "jenkins/environment.txt", "jenkins")
    shutil.copy(ROOT / ".gitignore", ".")
    git("init", "--quiet")
    return tmp_path


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def ct(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `ct secrets` in this process, because a start takes half a second."""
    command = [str(SCRIPT), *arguments]
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(StringIO()) as output,
        redirect_stderr(StringIO()) as errors,
    ):
        patch.setattr(sys, "argv", command)
        patch.setattr(signal, "signal", lambda *_: None)
        for name, value in DEFAULTS.items():  # which the script sets
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as end:
            runpy.run_path(command[0], run_name="__main__")
    return subprocess.CompletedProcess(command, int(end.value.code or 0), output.getvalue(), errors.getvalue())


def error_of(*arguments: str) -> str:
    process = ct(*arguments)
    assert process.returncode in {1, 2}
    assert process.stderr.count("\n") == 1
    return process.stderr


def secrets() -> dict[str, str]:
    return env_file.parse(ENV.read_text())


class TestNewFile:
    def test_every_random_secret_gets_a_different_long_value(self) -> None:
        ct()
        values = secrets()
        assert {"JENKINS_ADMIN_PASSWORD", "WEBHOOK_TOKEN", "POSTGRES_PASSWORD", "SERVING_TOKEN"} <= values.keys()
        assert len(set(values.values())) == len(values)
        assert min(map(len, values.values())) >= 40

    def test_only_the_owner_can_read_the_file(self) -> None:
        ct()
        assert ENV.stat().st_mode & 0o777 == 0o600

    def test_no_temporary_file_remains(self) -> None:
        ct()
        assert {path.name for path in ENV.parent.iterdir()} == {".env", "environment.txt"}

    def test_the_output_has_the_names_of_the_new_secrets_and_no_value(self) -> None:
        process = ct()
        assert process.returncode == 0
        assert process.stdout.startswith(f"{ENV}: added ")
        assert "JENKINS_ADMIN_PASSWORD" in process.stdout
        assert not [name for name, value in secrets().items() if value in process.stdout + process.stderr]

    def test_two_checkouts_have_different_secrets(self) -> None:
        stack_secrets.fill()
        first = secrets()
        ENV.unlink()
        stack_secrets.fill()
        assert not set(first.values()) & set(secrets().values())


class TestExistingFile:
    def test_existing_secrets_are_not_changed(self) -> None:
        ct()
        before = ENV.read_text()
        assert ct().stdout.startswith(f"{ENV} already has all secrets\n")
        assert ENV.read_text() == before

    def test_only_missing_secrets_are_added(self) -> None:
        stack_secrets.fill()
        complete = secrets()
        text = (
            ENV.read_text().replace(f"SERVING_TOKEN={complete['SERVING_TOKEN']}\n", "") + "# mine\nCT_BUCKET=bucket\n"
        )
        ENV.write_text(text)
        assert ct().stdout.startswith(f"{ENV}: added SERVING_TOKEN\n")
        assert ENV.read_text().startswith(text)
        assert secrets().keys() == complete.keys() | {"CT_BUCKET"}

    def test_an_empty_value_is_filled_in_its_line(self) -> None:
        ENV.write_text("WEBHOOK_TOKEN=\n# mine\n")
        stack_secrets.fill()
        assert ENV.read_text().splitlines()[1] == "# mine"
        assert secrets()["WEBHOOK_TOKEN"]

    def test_the_mode_of_a_file_that_others_can_read_is_corrected_with_a_message(self) -> None:
        stack_secrets.fill()
        ENV.chmod(0o644)
        assert ct().stdout.startswith(f"{ENV} was readable for others (mode 644)")
        assert ENV.stat().st_mode & 0o777 == 0o600


class TestRotate:
    def test_only_the_named_secret_gets_a_new_value(self) -> None:
        stack_secrets.fill()
        before = secrets()
        assert ct("--rotate", "WEBHOOK_TOKEN").stdout.startswith(f"{ENV}: rotated WEBHOOK_TOKEN\n")
        assert {name for name, value in secrets().items() if value != before[name]} == {"WEBHOOK_TOKEN"}

    def test_the_public_key_of_an_earlier_signing_key_stays(self) -> None:
        stack_secrets.fill()
        before = secrets()
        assert before["CT_SIGNING_PUBLIC_KEYS"] == signing.public_key(before["CT_SIGNING_KEY"])
        assert ct("--rotate", "CT_SIGNING_KEY").stdout.startswith(
            f"{ENV}: rotated CT_SIGNING_KEY, CT_SIGNING_PUBLIC_KEYS\n"
        )
        after = secrets()
        new = signing.public_key(after["CT_SIGNING_KEY"])
        assert after["CT_SIGNING_PUBLIC_KEYS"] == f"{new},{before['CT_SIGNING_PUBLIC_KEYS']}"

    def test_a_signing_key_that_is_none_is_an_error_in_one_line(self) -> None:
        ENV.write_text("CT_SIGNING_KEY=secret\n")
        assert "CT_SIGNING_KEY is not a signing key (32 bytes in base64url)" in error_of()

    def test_rotating_the_password_of_postgresql_prints_how_to_change_it_there(self) -> None:
        stack_secrets.fill()
        assert "PostgreSQL still has its old password" in ct("--rotate", "POSTGRES_PASSWORD").stdout

    def test_a_name_that_is_no_random_secret_is_rejected(self) -> None:
        assert "CT_BUCKET is not a random secret; they are AIRBYTE_WEBHOOK_TOKEN" in error_of("--rotate", "CT_BUCKET")
        assert not ENV.exists()


class TestShow:
    def test_one_value_is_printed_and_nothing_else(self) -> None:
        stack_secrets.fill()
        assert ct("--show", "JENKINS_ADMIN_PASSWORD").stdout == secrets()["JENKINS_ADMIN_PASSWORD"] + "\n"

    def test_a_value_is_shown_as_compose_reads_it(self) -> None:
        ENV.write_text("REPOSITORY_TOKEN='a$b' # the robot's\n")
        assert ct("--show", "REPOSITORY_TOKEN").stdout == "a$b\n"

    def test_a_missing_secret_is_reported_with_the_command_that_adds_it(self) -> None:
        message = f"ct secrets: error: {ENV} has no WEBHOOK_TOKEN: run scripts/ct secrets, which adds missing ones\n"
        assert error_of("--show", "WEBHOOK_TOKEN") == message

    def test_show_and_rotate_exclude_each_other(self) -> None:
        assert "exclude each other" in error_of("--show", "WEBHOOK_TOKEN", "--rotate", "WEBHOOK_TOKEN")


class TestErrors:
    def test_a_file_that_is_in_git_is_not_written(self) -> None:
        ENV.write_text("A=1\n")
        git("add", "--force", str(ENV))
        assert f"{ENV} is in git: run git rm --cached {ENV}" in error_of()
        assert ENV.read_text() == "A=1\n"

    def test_a_file_that_git_does_not_ignore_is_not_written(self) -> None:
        Path(".gitignore").unlink()
        assert f"{ENV} is not ignored by git: add it to .gitignore first" in error_of()
        assert not ENV.exists()

    def test_outside_of_git_it_is_written(self) -> None:
        shutil.rmtree(".git")
        assert ct().returncode == 0

    def test_a_malformed_line_is_reported_without_its_content(self) -> None:
        ENV.write_text("# mine\nhunter2\n")
        assert error_of().startswith(f"ct secrets: error: {ENV}: line 2 is not NAME=value")
        assert ENV.read_text() == "# mine\nhunter2\n"


class TestLauncher:
    def test_no_script_has_the_name_of_a_standard_module(self) -> None:
        assert not {path.stem for path in (ROOT / "scripts").glob("*.py")} & sys.stdlib_module_names

    def test_the_script_runs_in_a_separate_process(self) -> None:
        process = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True, timeout=TIMEOUT)
        assert process.stdout.startswith(f"{ENV}: added ")

    def test_ct_lists_the_verb(self) -> None:
        process = subprocess.run([ROOT / "scripts/ct", "--help"], capture_output=True, text=True, check=True)
        assert "\n  secrets      Secrets: " in process.stdout

    def test_ct_runs_the_verb(self, checkout: Path) -> None:
        """In a copy with a prepared environment, whose Python prints its arguments."""
        (checkout / ".venv/bin").mkdir(parents=True)
        installer = "src/continuous_training/extras/install.sh"
        for name in ("scripts/ct", "scripts/secrets_.py", "requirements.lock", installer):
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
        python = checkout / ".venv/bin/python"
        python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        python.chmod(0o755)
        checksum = subprocess.run(["cksum"], input=(ROOT / "requirements.lock").read_bytes(), capture_output=True)
        (checkout / ".venv/.set-up").write_text(f"{checkout}\n{checksum.stdout.decode()}")
        process = subprocess.run([checkout / "scripts/ct", "secrets", "--show", "A"], capture_output=True, text=True)
        assert process.stdout.splitlines()[-3:] == ["scripts/secrets_.py", "--show", "A"]
