"""The latency of models: the time of one prediction."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REPETITIONS = 30


def milliseconds(predictions: Sequence[Callable[[], object]]) -> list[float]:
    """Return the median time of each prediction in milliseconds.

    They take turns, so that other load on the machine slows all of them alike.
    """
    seconds = np.empty((REPETITIONS, len(predictions)))
    for predict in predictions:  # warm up
        predict()
    for repetition in seconds:
        for number, predict in enumerate(predictions):
            start = time.perf_counter()
            predict()
            repetition[number] = time.perf_counter() - start
    medians: list[float] = (np.median(seconds, axis=0) * 1000).tolist()
    return medians
