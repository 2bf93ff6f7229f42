"""Scopes that a signal, a timeout or a failure can interrupt. Scopes are nested."""

from __future__ import annotations

import time

from jenkinsfile.builds.results import InterruptedRunError

POLL_INTERVAL = 0.05  # seconds


class Interruption:
    """A scope that is interrupted explicitly, by its timeout, or together with its parent scope."""

    def __init__(self, parent: Interruption | None = None, seconds: float | None = None) -> None:
        self._parent = parent
        self._seconds = seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._cause: InterruptedRunError | None = None

    def interrupt(self, cause: InterruptedRunError) -> None:
        """Interrupt the scope. Only the first cause is kept."""
        self._cause = self._cause or cause

    @property
    def cause(self) -> InterruptedRunError | None:
        """The cause of the interruption; None while the scope is active."""
        if self._parent is not None and (cause := self._parent.cause):
            return cause
        if self._cause is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self._cause = InterruptedRunError(f"the timeout of {self._seconds:g} s has been exceeded")
        return self._cause

    def check(self) -> None:
        """Raise the cause if the scope is interrupted."""
        if cause := self.cause:
            raise cause

    def sleep(self, seconds: float) -> None:
        """Wait. Raises the cause as soon as the scope is interrupted."""
        end = time.monotonic() + seconds
        while (remaining := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(POLL_INTERVAL, remaining))
        self.check()
