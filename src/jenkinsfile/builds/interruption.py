"""How what runs is asked to end: scopes of interruption, one inside the other."""

from __future__ import annotations

import time

from jenkinsfile.builds.results import InterruptedRunError

POLL = 0.05  # seconds between two looks


class Interruption:
    """A scope that can be interrupted, or whose time can run out; it ends with the scope around it."""

    def __init__(self, around: Interruption | None = None, seconds: float | None = None) -> None:
        self._around = around
        self._seconds = seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._cause: InterruptedRunError | None = None

    def interrupt(self, cause: InterruptedRunError) -> None:
        """End the scope; only the first cause counts."""
        self._cause = self._cause or cause

    @property
    def cause(self) -> InterruptedRunError | None:
        """Why the scope has ended, or None while it has not."""
        if self._around is not None and (cause := self._around.cause):
            return cause
        if self._cause is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self._cause = InterruptedRunError(f"the timeout of {self._seconds:g} s has been exceeded")
        return self._cause

    def check(self) -> None:
        """Raise the cause if the scope has ended."""
        if cause := self.cause:
            raise cause

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than the scope lasts: its cause is raised."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(POLL, left))
        self.check()
