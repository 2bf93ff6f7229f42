"""The prompts of `ct new` on a real terminal: answers, corrections, Ctrl-C and Ctrl-D."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import pytest

from conftest import TIMEOUT, wait_until
from continuous_training.settings import load_settings
from forked_python import ForkedPython

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, str(ROOT / "scripts/new.py"), "rides"]
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """A program that runs in the foreground of a terminal of its own."""

    def __init__(self, command: Sequence[str]) -> None:
        self.output = ""
        self.process_id, self._terminal = pty.fork()
        if self.process_id == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # CI may ignore it
            os.execvpe(command[0], command, os.environ | {"OMP_NUM_THREADS": "1"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._terminal)

    def answer(self, prompt: str, text: str) -> None:
        """Wait for a prompt after the last answer, and type a text.

        Ctrl-C between the prompt and the read would be noticed after the read only, so the program must sleep in it.
        """
        while prompt not in self.output:
            if not self._read():
                pytest.fail(f"the program ended without the prompt {prompt!r}: {self.output}")
        self.output = self.output.partition(prompt)[2]
        if text == CTRL_C:
            wait_until(self._is_asleep, "the program waits for input")
        os.write(self._terminal, text.encode())

    def _is_asleep(self) -> bool:
        return Path(f"/proc/{self.process_id}/stat").read_text().rpartition(")")[2].split()[0] == "S"

    def wait(self) -> int:
        """Read the output to its end; return the exit code."""
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.process_id, 0)[1])

    def _read(self) -> bool:
        if not select.select([self._terminal], [], [], TIMEOUT)[0]:
            os.kill(self.process_id, signal.SIGKILL)
            pytest.fail(f"timeout: {self.output}")
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # Linux reports the end of a terminal so
            return False
        self.output += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("CT_WAREHOUSE_URL", "CT_DATA_URL"):
        monkeypatch.delenv(name, raising=False)
    for folder in ("src", "tests", "scripts"):
        Path(folder).mkdir()
    shutil.copy(ROOT / "requirements.lock", "requirements.lock")
    random, rows = np.random.default_rng(0), 1200
    x = random.normal(size=rows).round(2)
    hours = pd.to_timedelta(np.arange(rows), unit="h")
    frame = pd.DataFrame(
        {
            "ride": np.arange(rows),
            "begin": pd.Timestamp("2024-01-01") + hours,
            "end": pd.Timestamp("2024-01-02") + hours,
            "x": x,
            "late": np.where(x + random.normal(0, 1, rows) > 0, "yes", "no"),
            "score": (x + random.normal(0, 0.3, rows)).round(2),
        }
    )
    frame.to_csv("rides.csv", index=False)


def assert_untouched() -> None:
    assert [*Path("src").iterdir(), *Path("tests").iterdir()] == []
    assert [*Path().glob(".ct/new-*")] == []


def test_answers_on_a_terminal_make_the_model_and_a_wrong_one_is_asked_again() -> None:
    with Terminal(COMMAND) as terminal:
        terminal.answer("from: ", "rides.csv\n")
        terminal.answer("time: ", "ride\n")
        terminal.answer("--time ride is integer: it must be a timestamp or a date", "")
        terminal.answer("time: ", "begin\n")
        terminal.answer("target: ", "\n")  # there is no guess
        terminal.answer("target: ", "price\n")
        terminal.answer("--target price: there is no such column", "")
        terminal.answer("target: ", "late\n")
        terminal.answer("task [classification: the target is text]: ", "regression\n")
        terminal.answer("the target late is of type text, not a number", "")
        terminal.answer("task [classification: the target is text]: ", "\n")
        terminal.answer("key [ride: unique in all rows]: ", "late\n")
        terminal.answer("--key late cannot identify rows: it is the target", "")
        terminal.answer("key [ride: unique in all rows]: ", "begin\n")
        assert terminal.wait() == 0
    assert "Next: read src/rides/training.yaml" in terminal.output
    settings = load_settings("rides")
    assert (settings.data.time, settings.data.target, settings.data.key) == ("begin", "late", ["begin"])
    assert settings.data.columns["late"].values == ["no", "yes"]


@pytest.mark.parametrize(
    ("key", "code", "message"), [(CTRL_C, 130, ""), (CTRL_D, 2, "error: --target is missing: the input ended")]
)
def test_ctrl_c_and_ctrl_d_at_a_prompt_write_nothing(key: str, code: int, message: str) -> None:
    with Terminal([*COMMAND, "--from", "rides.csv", "--time", "begin"]) as terminal:
        terminal.answer("target: ", key)
        assert terminal.wait() == code
    assert message in terminal.output
    assert "Traceback" not in terminal.output
    assert_untouched()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--from is missing: A CSV or Parquet file, or a folder of them"),
        (["--from", "rides.csv"], "--time is missing: The column with each row's time; possible are begin, end"),
        (["--from", "rides.csv", "--time", "end"], "--target is missing: The column to predict; possible are ride,"),
    ],
)
def test_without_a_terminal_nothing_is_asked_and_one_line_names_the_missing_option(
    options: list[str], message: str, forked_python: ForkedPython
) -> None:
    process = forked_python.run(*COMMAND[1:], *options)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.splitlines()[-1].startswith(f"ct new: error: {message}")
    assert_untouched()
