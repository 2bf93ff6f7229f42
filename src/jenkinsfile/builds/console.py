"""What a run shows: one stream of lines to the terminal and to the build's log, masked, never mixed within a line."""

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

CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f]")
COLOURS = {"SUCCESS": "green", "UNSTABLE": "yellow", "FAILURE": "red", "ABORTED": "magenta", "NOT_BUILT": "dim"}
CLEAR = "\r\x1b[2K"


class Terminal(RichConsole):
    """Rich's console, but for who stops reading: that ends no build."""

    def on_broken_pipe(self) -> NoReturn:
        """Say so, where rich would end the program."""
        raise BrokenPipeError


class Console:
    """Lines for the terminal and, once it is given, for the log."""

    def __init__(self, secrets: Secrets, stream: TextIO | None = None) -> None:
        self.secrets = secrets
        self.timestamps = False
        self._stream = stream or sys.stdout
        self._terminal = Terminal(file=self._stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._log: TextIO | None = None
        self._lock = threading.Lock()
        self._transient = False

    @property
    def is_terminal(self) -> bool:
        """Whether somebody watches."""
        return self._terminal.is_terminal

    def log_to(self, file: Path) -> None:
        """Write all further lines to a log too."""
        self._log = file.open("w", buffering=1, encoding="utf-8")

    def close(self) -> None:
        """Finish the log."""
        if self._log:
            self._log.close()
            self._log = None

    def line(self, text: str, *, label: str = "", style: str = "") -> None:
        """Show a text, line by line, with the time and the name of its parallel branch before each."""
        for one in self.secrets.mask(text).split("\n"):
            with self._lock:
                stamp = f"{time.strftime('%H:%M:%S')} " if self.timestamps else ""
                before = f"[{label}] " if label else ""
                if self._log:
                    self._log.write(f"{stamp}{before}{CONTROL.sub('', one)}\n")
                shown = one if self.is_terminal else CONTROL.sub("", one)
                self._show(Text.assemble((stamp, "dim"), (before, "cyan"), _styled(shown, style)))

    def banner(self, name: str, label: str = "") -> None:
        """Announce a stage."""
        self.line(f"── {name} {'─' * max(3, 60 - len(name))}", label=label, style="bold blue")

    def transient(self, text: str, label: str = "") -> None:
        """Show a line that the next one replaces: a progress bar. The log never sees it."""
        if not self.is_terminal:
            return
        shown = CONTROL.sub("", self.secrets.mask(f"[{label}] {text}" if label else text))
        with self._lock:
            self._write(CLEAR + shown[: self._terminal.width - 1])
            self._transient = True

    def table(self, stages: Iterable[StageRecord]) -> None:
        """Show how each stage went."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("stage")
        table.add_column("result")
        table.add_column("seconds", justify="right")
        for stage in stages:
            colour = COLOURS[stage.result]
            seconds = "" if stage.result == Result.NOT_BUILT.name else f"{stage.seconds:.1f}"
            table.add_row("  " * stage.depth + stage.name, Text(stage.result, colour), seconds)
        plain = Terminal(width=self._terminal.width, color_system=None, force_terminal=False, highlight=False)
        with plain.capture() as captured:
            plain.print(table)
        with self._lock:
            if self._log:
                self._log.write(self.secrets.mask(captured.get()))
            self._show(table) if self.is_terminal else self._write(self.secrets.mask(captured.get()))

    def _show(self, what: Text | Table) -> None:
        if self._transient:
            self._write(CLEAR)
            self._transient = False
        try:
            self._terminal.print(what)
            self._stream.flush()
        except BrokenPipeError:
            self._unwatched()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            self._unwatched()

    def _unwatched(self) -> None:
        """The reader has gone (`| head`): a build goes on without one, as on Jenkins, and its log stays."""
        self._stream = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - lives as long as the program
        self._terminal = Terminal(file=self._stream)
        sys.stdout = self._stream


class Output:
    """The output of one script: bytes in, whole lines out. What follows a carriage return is shown, not logged."""

    def __init__(self, console: Console, label: str = "") -> None:
        self._console = console
        self._label = label
        self._rest = b""

    def write(self, chunk: bytes) -> None:
        """Take what the script has written; a line is shown when it is whole, so that no secret is split."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._console.line(_last_state(line), label=self._label)
        if chunk and b"\r" in self._rest:  # only what is complete: half a secret could not be masked
            self._console.transient(_last_state(self._rest.rpartition(b"\r")[0]), self._label)

    def close(self) -> None:
        """Show what came without a newline at its end."""
        if self._rest:
            self._console.line(_last_state(self._rest), label=self._label)
            self._rest = b""


def _last_state(line: bytes) -> str:
    """Give what a terminal would show of a line that was written over with carriage returns."""
    states = [state for state in line.split(b"\r") if state.strip()]
    return states[-1].decode(errors="replace") if states else ""


def _styled(text: str, style: str) -> Text:
    return Text(text, style) if style else Text.from_ansi(text)
