"""Ctrl-C and its kin: the first ends the stages, and `post` still runs; the second ends `post` too."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jenkinsfile.builds.results import InterruptedRunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from jenkinsfile.builds.context import Build

HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Received:
    """The first signal that has come, if any."""

    number: int | None = None

    @property
    def exit_code(self) -> int | None:
        """128 and the signal's number, as shells count."""
        return None if self.number is None else 128 + self.number


@contextmanager
def heeded(build: Build) -> Iterator[Received]:
    """Let signals interrupt the build while the block runs."""
    received = Received()

    def handle(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if received.number is None:
            received.number = number
            build.interruption.interrupt(InterruptedRunError(f"interrupted by {name}"))
        else:
            build.last_interruption.interrupt(InterruptedRunError(f"interrupted again by {name}"))

    before = {number: signal.signal(number, handle) for number in HEEDED}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
