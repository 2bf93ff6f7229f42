"""Signals: the first one interrupts the stages, and `post` still runs; the second one interrupts `post` too."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jenkinsfile.builds.results import InterruptedRunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from jenkinsfile.builds.context import Build

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class FirstSignal:
    """The first signal during a build, if any."""

    number: int | None = None

    @property
    def exit_code(self) -> int | None:
        """128 plus the number of the signal, as in shells; None without a signal."""
        return None if self.number is None else 128 + self.number


@contextmanager
def handle_signals(build: Build) -> Iterator[FirstSignal]:
    """Let signals interrupt the build during the block."""
    first = FirstSignal()

    def handle(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if first.number is None:
            first.number = number
            build.interruption.interrupt(InterruptedRunError(f"interrupted by {name}"))
        else:
            build.post_interruption.interrupt(InterruptedRunError(f"interrupted again by {name}"))

    handlers = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield first
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
