"""A clock for tests that only moves when its time is set."""

from __future__ import annotations


class ManualClock:
    """Returns `now`, in seconds."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
