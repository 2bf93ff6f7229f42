"""The options of a prediction server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The command line of `ct serve`."""

    model: str
    host: str
    port: int
    workers: int
    max_queue: int
    max_body_mb: float
    rate: float | None
    burst: float
    debug: bool
