"""Request durations, counted in the buckets of the server's metrics."""

from __future__ import annotations

import math

from continuous_training.serving.metrics import SECONDS_BUCKETS
from continuous_training.serving.rollout.counters import Counters

BOUNDS = (*SECONDS_BUCKETS, math.inf)


def count_durations(seconds: list[float]) -> Counters:
    """Return the counters of successful requests with these durations."""
    durations = dict.fromkeys(BOUNDS, 0)
    for duration in seconds:
        durations[next(bound for bound in BOUNDS if duration <= bound)] += 1
    return Counters(successes=len(seconds), durations=durations)
