"""The latency of models: the time of one prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REPETITIONS = 30


def milliseconds(measurements: Sequence[Callable[[], float]]) -> list[float]:
    """Return the median time of each model's prediction in milliseconds.

    They take turns, so that other load on the machine slows all of them alike.

    Args:
        measurements: for each model a function that predicts and returns the seconds.
    """
    seconds = np.empty((REPETITIONS, len(measurements)))
    for measure in measurements:  # warm up
        measure()
    for repetition in seconds:
        repetition[:] = [measure() for measure in measurements]
    medians: list[float] = (np.median(seconds, axis=0) * 1000).tolist()
    return medians
