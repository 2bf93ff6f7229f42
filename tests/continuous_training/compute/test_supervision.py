"""A fit in a process of its own: whatever ends it, one line says why, and nothing of it goes on running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from conftest import wait_until
from continuous_training.compute.supervision import FitOutcome, read_outcome

SCRIPT = """
import os, signal, subprocess, sys, time
from pathlib import Path
from continuous_training import command
from continuous_training.compute import supervision
from continuous_training.errors import UserError
supervision.POLL_SECONDS = 0.02
{settings}

def main(arguments):
    with supervision.supervised({hours}):
{body}

command.start(main, command.parser("A fit."))
"""
SECONDS = 1 / 3600  # in hours
TIMEOUT = 60  # seconds


class Fit:
    """A script whose `main` supervises some lines as the fit."""

    def __init__(self, folder: Path, body: str, hours: float = 1, settings: str = "") -> None:
        self.outcome_path = folder / "outcome"
        script = folder / "fit.py"
        indented = "\n".join(f"        {line}" for line in body.strip().splitlines())
        script.write_text(SCRIPT.format(settings=settings, hours=hours, body=indented))
        self.process = subprocess.Popen(
            [sys.executable, script],
            cwd=folder,
            env=os.environ | {"CT_FIT_OUTCOME": str(self.outcome_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> tuple[int, str, str]:
        """Wait for its end; return its exit code, output and errors."""
        try:
            output, errors = self.process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()  # and the fit with it
            raise
        return self.process.returncode, output, errors

    @property
    def outcome(self) -> FitOutcome:
        return read_outcome(self.outcome_path)


def runs(pid: int) -> bool:
    """Return whether a process runs; one that has ended may wait for an init process that collects it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_fit_that_succeeds_exits_as_if_it_were_not_supervised(tmp_path: Path) -> None:
    fit = Fit(tmp_path, "block = b'x' * (200 << 20)\nprint('fitted')\nprint('a warning', file=sys.stderr)")
    assert fit.wait() == (0, "fitted\n", "a warning\n")
    assert fit.outcome.error is None
    assert fit.outcome.peak_memory_mb is not None
    assert 200 < fit.outcome.peak_memory_mb < 400


def test_the_memory_of_several_processes_counts_together(tmp_path: Path) -> None:
    fit = Fit(
        tmp_path,
        "child = os.fork()\nblock = b'x' * (200 << 20)\ntime.sleep(1)\nos.waitpid(child, 0) if child else os._exit(0)",
    )
    assert fit.wait()[0] == 0
    assert fit.outcome.peak_memory_mb is not None
    assert 400 < fit.outcome.peak_memory_mb < 700


def test_a_fit_that_is_killed_as_by_the_kernel_is_reported_with_its_memory_and_advice(tmp_path: Path) -> None:
    fit = Fit(tmp_path, "block = b'x' * (200 << 20)\nos.kill(os.getpid(), signal.SIGKILL)")
    code, _, errors = fit.wait()
    message = r"the training was killed by signal 9, probably for lack of memory \(it used (\d+) of this machine's "
    assert code == 1
    match = re.search(rf"error: {message}[\d,]+ MB\): use a larger machine or instance type, or fewer rows", errors)
    assert match, errors
    assert 200 < int(match[1]) < 400
    assert fit.outcome.error == errors.partition("error: ")[2].strip()


@pytest.mark.parametrize(
    "body",
    [
        "bytearray(1 << 60)",
        "raise RuntimeError('std::bad_alloc')",
        "raise UserError('cannot be fitted') from ValueError('DefaultCPUAllocator: can\\'t allocate memory')",
    ],
    ids=["MemoryError", "a library's own error", "the cause of another error"],
)
def test_a_fit_that_lacks_memory_is_reported_with_advice(tmp_path: Path, body: str) -> None:
    fit = Fit(tmp_path, body)
    code, _, errors = fit.wait()
    assert code == 1
    assert re.search(r"error: the training lacks memory: .*: use a larger machine or instance type", errors), errors
    assert str(fit.outcome.error).startswith("the training lacks memory: ")


def test_other_errors_are_printed_once_and_are_the_outcome(tmp_path: Path) -> None:
    fit = Fit(tmp_path, "raise UserError('C must be positive')")
    code, _, errors = fit.wait()
    assert (code, errors.count("error: C must be positive")) == (1, 1)
    assert fit.outcome.error == "C must be positive"


def test_an_exit_code_of_the_fit_is_kept(tmp_path: Path) -> None:
    assert Fit(tmp_path, "sys.exit(7)").wait()[0] == 7


def test_a_crash_of_a_library_is_reported_with_its_signal(tmp_path: Path) -> None:
    code, _, errors = Fit(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)").wait()
    assert code == 1
    assert "error: the training was ended by signal 11 (SIGSEGV), as by a crash in one of its libraries" in errors


@pytest.mark.parametrize("stubborn", [False, True], ids=["ends at SIGTERM", "ignores SIGTERM"])
def test_a_fit_that_never_ends_is_ended_with_its_children(tmp_path: Path, stubborn: bool) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else ""
    body = (
        f"{ignore}child = subprocess.Popen(['sleep', '600'])\nPath('pid').write_text(str(child.pid))\ntime.sleep(600)"
    )
    fit = Fit(tmp_path, body, hours=2 * SECONDS, settings="supervision.GRACE_SECONDS = 0.3")
    code, _, errors = fit.wait()
    assert code == 1
    assert "error: the training did not end within 0.000555556 h: raise compute.max_hours, or train less" in errors
    assert str(fit.outcome.error).startswith("the training did not end within")
    assert not runs(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_fit_ends_with_the_process_that_supervises_it(tmp_path: Path, number: signal.Signals) -> None:
    fit = Fit(tmp_path, "Path('partial').write_text(str(os.getpid()))\nos.rename('partial', 'pid')\ntime.sleep(600)")
    wait_until((tmp_path / "pid").exists, "the fit has started")
    fit.process.send_signal(number)
    assert fit.wait()[0] == (128 + number if number == signal.SIGTERM else -number)
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not runs(pid), "it ends")


def test_the_kernel_kills_the_fit_before_other_processes_if_memory_runs_out(tmp_path: Path) -> None:
    assert Fit(tmp_path, "print(Path('/proc/self/oom_score_adj').read_text().strip())").wait()[1] == "1000\n"


def test_a_fit_without_an_outcome_has_an_empty_one(tmp_path: Path) -> None:
    assert read_outcome(tmp_path / "outcome") == FitOutcome()
    (tmp_path / "outcome").write_text("{")
    assert read_outcome(tmp_path / "outcome") == FitOutcome()
