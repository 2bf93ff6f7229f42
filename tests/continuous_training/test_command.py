"""The output of every script: results on stdout, errors in one line on stderr, and an exit code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from conftest import ROOT, TIMEOUT
from wheels import install_only_from, pin, write_wheel

SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
EXAMPLE = re.compile(r"([A-Z_]+=\S+ )*scripts/ct (?P<verb>[a-z-]+)\b.*")


def ct(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )


def verb_of(script: Path) -> str:
    return script.stem.rstrip("_").replace("_", "-")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_help_ends_with_examples_that_can_be_copied_to_a_shell(script: Path) -> None:
    process = ct(sys.executable, str(script), "--help")
    assert process.returncode == 0
    lines = [line.strip() for line in process.stdout.partition("examples:\n")[2].splitlines()]
    examples = [EXAMPLE.fullmatch(line) for line in lines]
    assert examples
    assert all(examples), lines
    assert {example["verb"] for example in examples if example} == {verb_of(script)}


def test_an_error_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    process = ct(sys.executable, str(ROOT / "scripts/plan.py"), cwd=tmp_path)
    assert process.returncode == 1
    assert process.stderr == "ct plan: error: build/run.json is missing: run scripts/ct setup first\n"
    assert process.stdout == ""


def test_threads_that_wait_for_each_other_sleep_unless_a_variable_says_otherwise() -> None:
    """Busy waiting would slow down other builds on the same agent."""
    script = """
import os
from continuous_training import command
command.start(lambda _: print(os.environ["OMP_WAIT_POLICY"]), command.parser("print it"))
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for variables, policy in (environment, "PASSIVE"), (environment | {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"):
        process = subprocess.run(
            [sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True
        )
        assert process.stdout == f"{policy}\n"


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    process = ct(sys.executable, str(ROOT / "scripts/plan.py"), "--debug", cwd=tmp_path)
    assert "Traceback" in process.stderr


class TestLauncher:
    def test_without_a_verb_it_lists_them(self) -> None:
        process = ct("scripts/ct")
        assert process.returncode == 0
        for script in SCRIPTS:
            assert f"  {verb_of(script)} " in process.stdout

    @pytest.mark.parametrize("verb", ["dance", "../scripts/run", ".hidden", "x/y"])
    def test_an_unknown_verb_is_rejected(self, verb: str) -> None:
        process = ct("scripts/ct", verb)
        assert process.returncode == 2
        assert "unknown verb" in process.stderr

    def test_it_works_from_any_folder(self, tmp_path: Path) -> None:
        process = ct(str(ROOT / "scripts/ct"), "plan", "--help", cwd=tmp_path)
        assert process.returncode == 0

    def test_a_library_that_a_model_imports_is_installed_before_the_verb_starts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In a copy with a prepared environment, from a package on this machine."""
        install_only_from(tmp_path / "wheels", monkeypatch)
        clone, extras = tmp_path / "clone", "src/continuous_training/extras"
        for name in ("scripts/ct", f"{extras}/install.sh", "src/continuous_training/fork_server/client.py"):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
        (clone / "requirements.lock").touch()
        (clone / "scripts/plan.py").write_text("import tiny; print(tiny.SIGN)\n")
        (clone / extras / "tiny.lock").write_text(pin(write_wheel(tmp_path / "wheels", "tiny", "1.0", "SIGN = 1\n")))
        subprocess.run([find_uv_bin(), "venv", "--quiet", "--python", sys.executable, clone / ".venv"], check=True)
        (clone / ".venv/bin/uv").symlink_to(find_uv_bin())
        checksum = subprocess.run(["cksum"], input=b"", capture_output=True, check=True).stdout.decode()
        (clone / ".venv/.set-up").write_text(f"{clone}\n{checksum}")
        assert "No module named 'tiny'" in ct("scripts/ct", "plan", cwd=clone).stderr
        (clone / "src/shop").mkdir()
        (clone / "src/shop/model.py").write_text("import tiny\n")
        process = ct("scripts/ct", "plan", cwd=clone)
        assert process.stdout == "1\n", process.stderr
        assert process.stderr == f"ct: installing tiny in {clone}/.venv, once\n"

    def test_without_a_supported_python_the_error_names_the_supported_versions(self, tmp_path: Path) -> None:
        clone = tmp_path / "clone"
        (clone / "scripts").mkdir(parents=True)
        for name in ("scripts/ct", "scripts/plan.py", "requirements.lock"):
            (clone / name).write_bytes((ROOT / name).read_bytes())
        (clone / "scripts/ct").chmod(0o755)
        process = ct("scripts/ct", "plan", cwd=clone, CT_PYTHON="/bin/false")
        assert process.returncode == 1
        assert "no Python 3.11 to 3.13" in process.stderr


@pytest.mark.parametrize(("interruption", "code"), [("KeyboardInterrupt()", 130), ("SystemExit(143)", 143)])
def test_a_signal_that_a_library_reports_as_an_error_of_its_own_is_no_error(interruption: str, code: int) -> None:
    """DuckDB raises a RuntimeError from it, and a source a UserError from that."""
    script = f"""
from continuous_training import command
from continuous_training.errors import UserError

def main(_):
    try:
        raise RuntimeError("Query interrupted") from {interruption}
    except RuntimeError as error:
        raise UserError("the source failed") from error

command.start(main, command.parser("count"))
"""
    process = ct(sys.executable, "-c", script)
    assert (process.returncode, process.stderr) == (code, "")
