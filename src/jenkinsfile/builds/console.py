"""The console of a build: one stream of masked, complete lines to the terminal and to the build's log."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn, TextIO

from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text

from jenkinsfile.builds.results import Result

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from jenkinsfile.builds.masking import Secrets
    from jenkinsfile.builds.records import StageRecord

CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f]")
COLOR_OF_RESULT = {"SUCCESS": "green", "UNSTABLE": "yellow", "FAILURE": "red", "ABORTED": "magenta", "NOT_BUILT": "dim"}
CLEAR_LINE = "\r\x1b[2K"


class Terminal(RichConsole):
    """Rich's console, except that a closed pipe does not end the program."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise, where rich would exit."""
        raise BrokenPipeError


class Console:
    """Writes lines to the terminal and, after `log_to`, to the log."""

    def __init__(self, secrets: Secrets, stream: TextIO | None = None) -> None:
        self.secrets = secrets
        self.timestamps = False
        self._stream = stream or sys.stdout
        self._terminal = Terminal(file=self._stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._log: TextIO | None = None
        self._lock = threading.Lock()
        self._has_progress_line = False

    @property
    def is_terminal(self) -> bool:
        """Whether the output goes to a terminal."""
        return self._terminal.is_terminal

    def log_to(self, file: Path) -> None:
        """Write all further lines to a log as well."""
        self._log = file.open("w", buffering=1, encoding="utf-8")

    def close(self) -> None:
        """Close the log."""
        if self._log:
            self._log.close()
            self._log = None

    def line(self, text: str, *, label: str = "", style: str = "") -> None:
        """Write text line by line, each with the time (if timestamps are on) and the name of its parallel branch."""
        for line in self.secrets.mask(text).split("\n"):
            with self._lock:
                timestamp = f"{time.strftime('%H:%M:%S')} " if self.timestamps else ""
                prefix = f"[{label}] " if label else ""
                plain = CONTROL_SEQUENCE.sub("", line)
                if self._log:
                    self._log.write(f"{timestamp}{prefix}{plain}\n")
                content = _to_rich_text(line if self.is_terminal else plain, style)
                self._print(Text.assemble((timestamp, "dim"), (prefix, "cyan"), content))

    def stage_header(self, name: str, label: str = "") -> None:
        """Write the header of a stage."""
        self.line(f"── {name} {'─' * max(3, 60 - len(name))}", label=label, style="bold blue")

    def progress(self, text: str, label: str = "") -> None:
        """Write a line that the next one replaces, such as a progress bar, to the terminal but not to the log."""
        if not self.is_terminal:
            return
        line = CONTROL_SEQUENCE.sub("", self.secrets.mask(f"[{label}] {text}" if label else text))
        with self._lock:
            self._write(CLEAR_LINE + line[: self._terminal.width - 1])
            self._has_progress_line = True

    def table(self, stages: Iterable[StageRecord]) -> None:
        """Write the result and the duration of each stage."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("stage")
        table.add_column("result")
        table.add_column("seconds", justify="right")
        for stage in stages:
            color = COLOR_OF_RESULT[stage.result]
            seconds = "" if stage.result == Result.NOT_BUILT.name else f"{stage.seconds:.1f}"
            table.add_row("  " * stage.depth + stage.name, Text(stage.result, color), seconds)
        plain = Terminal(width=self._terminal.width, color_system=None, force_terminal=False, highlight=False)
        with plain.capture() as capture:
            plain.print(table)
        with self._lock:
            if self._log:
                self._log.write(self.secrets.mask(capture.get()))
            self._print(table) if self.is_terminal else self._write(self.secrets.mask(capture.get()))

    def _print(self, content: Text | Table) -> None:
        if self._has_progress_line:
            self._write(CLEAR_LINE)
            self._has_progress_line = False
        try:
            self._terminal.print(content)
            self._stream.flush()
        except BrokenPipeError:
            self._discard_output()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            self._discard_output()

    def _discard_output(self) -> None:
        """Continue without a reader after a closed pipe (`| head`). As on Jenkins, the build and its log go on."""
        self._stream = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - lives as long as the program
        self._terminal = Terminal(file=self._stream)
        sys.stdout = self._stream


class ScriptOutput:
    """Converts the output of one script from bytes to complete lines. Progress (carriage returns) is not logged."""

    def __init__(self, console: Console, label: str = "") -> None:
        self._console = console
        self._label = label
        self._incomplete_line = b""

    def write(self, chunk: bytes) -> None:
        """Write output of the script. Only complete lines reach the console, so that no secret is split."""
        *lines, self._incomplete_line = (self._incomplete_line + chunk).split(b"\n")
        for line in lines:
            self._console.line(_visible_text(line), label=self._label)
        if chunk and b"\r" in self._incomplete_line:  # only up to the last one: a part of a secret could not be masked
            self._console.progress(_visible_text(self._incomplete_line.rpartition(b"\r")[0]), self._label)

    def close(self) -> None:
        """Write an incomplete last line."""
        if self._incomplete_line:
            self._console.line(_visible_text(self._incomplete_line), label=self._label)
            self._incomplete_line = b""


def _visible_text(line: bytes) -> str:
    """Return what a terminal shows of a line with carriage returns: the text after the last one."""
    parts = [part for part in line.split(b"\r") if part.strip()]
    return parts[-1].decode(errors="replace") if parts else ""


def _to_rich_text(text: str, style: str) -> Text:
    return Text(text, style) if style else Text.from_ansi(text)
