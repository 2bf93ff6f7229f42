"""Signals: whoever aborts a run waits until what it has launched is written down, or ended."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ABORTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def deferred() -> Iterator[None]:
    """Let signals that would end this process wait until the context is left."""
    heard: list[int] = []
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in ABORTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])
