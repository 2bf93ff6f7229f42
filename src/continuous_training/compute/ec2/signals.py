"""Signals: an abort waits until a launched instance is recorded, or terminated."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ABORT_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Hold back signals that would end this process, and raise the first of them when the context is left."""
    pending: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: pending.append(number)) for number in ABORT_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if pending:
            signal.raise_signal(pending[0])
