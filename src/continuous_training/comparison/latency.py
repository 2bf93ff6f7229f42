"""Footprint: how long a model takes to answer, and how large it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TIMES = 30


def milliseconds(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Return the median time that each of these takes, in milliseconds.

    They are called in turn, so that whatever else the machine does slows all of them alike.
    """
    seconds = np.empty((TIMES, len(calls)))
    for call in calls:  # the first time is not like the others
        call()
    for repetition in seconds:
        for number, call in enumerate(calls):
            start = time.perf_counter()
            call()
            repetition[number] = time.perf_counter() - start
    medians: list[float] = (np.median(seconds, axis=0) * 1000).tolist()
    return medians
