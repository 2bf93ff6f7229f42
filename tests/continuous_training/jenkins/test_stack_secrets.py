"""`ct secrets`: random secrets in a file that nobody else can read, and that no commit can have in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from continuous_training.jenkins import env_file, stack_secrets

ENV = Path("jenkins/.env")


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a checkout with what `ct secrets` reads, and go there."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # as they are in a hook
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "jenkins").mkdir()
    shutil.copy(ROOT / "jenkins/environment.txt", "jenkins")
    shutil.copy(ROOT / ".gitignore", ".")
    git("init", "--quiet")
    return tmp_path


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def ct(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/secrets_.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def refusal(*arguments: str) -> str:
    done = ct(*arguments)
    assert done.returncode in {1, 2}
    assert done.stderr.count("\n") == 1
    return done.stderr


def secrets() -> dict[str, str]:
    return env_file.parse(ENV.read_text())


class TestFirstTime:
    def test_every_secret_that_nobody_has_to_choose_gets_a_long_random_value_of_its_own(self) -> None:
        ct()
        found = secrets()
        assert {"JENKINS_ADMIN_PASSWORD", "WEBHOOK_TOKEN", "POSTGRES_PASSWORD", "SERVING_TOKEN"} <= found.keys()
        assert len(set(found.values())) == len(found)
        assert min(map(len, found.values())) >= 40

    def test_only_the_owner_can_read_the_file(self) -> None:
        ct()
        assert ENV.stat().st_mode & 0o777 == 0o600

    def test_nothing_else_is_left_beside_it(self) -> None:
        ct()
        assert {path.name for path in ENV.parent.iterdir()} == {".env", "environment.txt"}

    def test_it_says_what_it_wrote_and_where_and_shows_no_value(self) -> None:
        done = ct()
        assert done.returncode == 0
        assert done.stdout.startswith(f"{ENV}: added ")
        assert "JENKINS_ADMIN_PASSWORD" in done.stdout
        assert not [name for name, value in secrets().items() if value in done.stdout + done.stderr]

    def test_two_checkouts_have_different_secrets(self) -> None:
        stack_secrets.fill()
        first = secrets()
        ENV.unlink()
        stack_secrets.fill()
        assert not set(first.values()) & set(secrets().values())


class TestLater:
    def test_nothing_is_overwritten(self) -> None:
        ct()
        before = ENV.read_text()
        assert ct().stdout.startswith(f"{ENV} already has all secrets\n")
        assert ENV.read_text() == before

    def test_only_what_is_missing_is_added(self) -> None:
        stack_secrets.fill()
        whole = secrets()
        kept = ENV.read_text().replace(f"SERVING_TOKEN={whole['SERVING_TOKEN']}\n", "") + "# mine\nCT_BUCKET=ours\n"
        ENV.write_text(kept)
        assert ct().stdout.startswith(f"{ENV}: added SERVING_TOKEN\n")
        assert ENV.read_text().startswith(kept)
        assert secrets().keys() == whole.keys() | {"CT_BUCKET"}

    def test_an_empty_value_is_filled_in_its_place(self) -> None:
        ENV.write_text("WEBHOOK_TOKEN=\n# mine\n")
        stack_secrets.fill()
        assert ENV.read_text().splitlines()[1] == "# mine"
        assert secrets()["WEBHOOK_TOKEN"]

    def test_a_file_that_others_can_read_is_closed_and_that_is_told(self) -> None:
        stack_secrets.fill()
        ENV.chmod(0o644)
        assert ct().stdout.startswith(f"{ENV} was readable for others (mode 644)")
        assert ENV.stat().st_mode & 0o777 == 0o600


class TestRotate:
    def test_only_what_is_named_gets_a_new_value(self) -> None:
        stack_secrets.fill()
        before = secrets()
        assert ct("--rotate", "WEBHOOK_TOKEN").stdout.startswith(f"{ENV}: rotated WEBHOOK_TOKEN\n")
        assert {name for name, value in secrets().items() if value != before[name]} == {"WEBHOOK_TOKEN"}

    def test_what_the_database_keeps_is_told(self) -> None:
        stack_secrets.fill()
        assert "PostgreSQL still has its old password" in ct("--rotate", "POSTGRES_PASSWORD").stdout

    def test_a_name_that_is_no_random_secret_is_refused_before_anything_is_written(self) -> None:
        assert "CT_BUCKET is not a random secret; they are AIRBYTE_WEBHOOK_TOKEN" in refusal("--rotate", "CT_BUCKET")
        assert not ENV.exists()


class TestShow:
    def test_one_value_is_printed_and_nothing_else(self) -> None:
        stack_secrets.fill()
        assert ct("--show", "JENKINS_ADMIN_PASSWORD").stdout == secrets()["JENKINS_ADMIN_PASSWORD"] + "\n"

    def test_what_a_person_wrote_is_shown_as_compose_reads_it(self) -> None:
        ENV.write_text("REPOSITORY_TOKEN='a$b' # the robot's\n")
        assert ct("--show", "REPOSITORY_TOKEN").stdout == "a$b\n"

    def test_what_is_missing_is_told_with_the_command_that_writes_it(self) -> None:
        message = f"ct secrets: error: {ENV} has no WEBHOOK_TOKEN: run scripts/ct secrets, which adds missing ones\n"
        assert refusal("--show", "WEBHOOK_TOKEN") == message

    def test_it_cannot_be_asked_to_rotate_too(self) -> None:
        assert "exclude each other" in refusal("--show", "WEBHOOK_TOKEN", "--rotate", "WEBHOOK_TOKEN")


class TestRefusals:
    def test_a_file_that_is_in_git_is_not_written(self) -> None:
        ENV.write_text("A=1\n")
        git("add", "--force", str(ENV))
        assert f"{ENV} is in git: run git rm --cached {ENV}" in refusal()
        assert ENV.read_text() == "A=1\n"

    def test_a_file_that_the_next_commit_would_have_in_it_is_not_written(self) -> None:
        Path(".gitignore").unlink()
        assert f"{ENV} is not ignored by git: add it to .gitignore first" in refusal()
        assert not ENV.exists()

    def test_outside_of_git_it_is_written(self) -> None:
        shutil.rmtree(".git")
        assert ct().returncode == 0

    def test_a_malformed_line_is_told_without_what_stands_in_it(self) -> None:
        ENV.write_text("# mine\nhunter2\n")
        assert refusal().startswith(f"ct secrets: error: {ENV}: line 2 is not NAME=value")
        assert ENV.read_text() == "# mine\nhunter2\n"


class TestLauncher:
    def test_no_script_hides_a_module_of_pythons_own_from_the_others(self) -> None:
        assert not {path.stem for path in (ROOT / "scripts").glob("*.py")} & sys.stdlib_module_names

    def test_ct_lists_the_verb_by_its_name(self) -> None:
        done = subprocess.run([ROOT / "scripts/ct", "--help"], capture_output=True, text=True, check=True)
        assert "\n  secrets      Secrets: " in done.stdout

    def test_ct_finds_it_by_that_name(self, checkout: Path) -> None:
        """In a copy whose environment is said to be set up, with a Python that tells what it was given."""
        (checkout / "scripts").mkdir()
        (checkout / ".venv/bin").mkdir(parents=True)
        for name in ("scripts/ct", "scripts/secrets_.py", "requirements.lock"):
            shutil.copy(ROOT / name, checkout / name)
        python = checkout / ".venv/bin/python"
        python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        python.chmod(0o755)
        summed = subprocess.run(["cksum"], input=(ROOT / "requirements.lock").read_bytes(), capture_output=True)
        (checkout / ".venv/.set-up").write_text(f"{checkout}\n{summed.stdout.decode()}")
        done = subprocess.run([checkout / "scripts/ct", "secrets", "--show", "A"], capture_output=True, text=True)
        assert done.stdout.splitlines()[-3:] == ["scripts/secrets_.py", "--show", "A"]
