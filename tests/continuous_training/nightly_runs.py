"""Series of nightly runs whose models are simulated: how often one is promoted, by the gate's own rule."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from continuous_training.comparison import bootstrap
from continuous_training.comparison.looks import confidence_of, next_look
from continuous_training.documents import Look, Snapshot, SnapshotFile, Stopwatch
from continuous_training.settings import Compare

FRESH_DAYS, ROWS_PER_DAY = 28, 20
ROWS = FRESH_DAYS * ROWS_PER_DAY
START = datetime(2020, 1, 1)


@dataclass(frozen=True)
class Nights:
    """A kind of series.

    Attributes:
        gain: by how much the candidates are better, in standard errors of one comparison; 0 for equal models.
        likeness: the correlation of the errors of two nights' candidates: 1 if all nights have the same one.
        nights: the number of runs.
        earlier: the number of nightly runs before, whose looks have been spent.
    """

    gain: float = 0.0
    likeness: float = 0.0
    nights: int = 30
    earlier: int = 0


def first_promotions(kind: Nights, limits: Compare, series: int, seed: int = 0) -> np.ndarray:
    """Return the night of each series' first promotion, from 1; 0 if there is none.

    The metric is the mean squared error. That of the champion is that of the candidates, plus the gain.
    """
    random = np.random.default_rng(seed)
    weights = np.array([*bootstrap.resample_weights(ROWS, limits.resamples)], dtype=np.float32) / ROWS
    confidences = _confidences(kind, limits)
    gain = kind.gain * 2 / ROWS**0.5  # the variance of the difference of two squared normal errors is 4
    firsts = np.zeros(series, dtype=int)
    for number in range(series):
        rows = ROWS + (kind.nights - 1) * ROWS_PER_DAY
        champion, alike = random.normal(size=(2, rows))
        for night, confidence in enumerate(confidences):
            window = slice(night * ROWS_PER_DAY, night * ROWS_PER_DAY + ROWS)
            other = random.normal(size=ROWS)
            candidate = kind.likeness**0.5 * alike[window] + (1 - kind.likeness) ** 0.5 * other
            scores = champion[window] ** 2 - candidate**2 + gain
            differences = (weights @ scores.astype(np.float32)).astype(np.float64)
            ends = bootstrap.interval(differences, limits.confidence, decisive=confidence, cases=ROWS)
            assert ends is not None
            if ends[0] > 0:
                firsts[number] = night + 1
                break
    return firsts


def snapshot_until(until: datetime) -> Snapshot:
    """Return a snapshot of 28 fresh days that end then, as does the newest row."""
    file = SnapshotFile(path=Path("rows.parquet"), sha256="", rows=ROWS)
    return Snapshot(
        **Stopwatch("ct-1").stop(),
        hash="",
        train=file,
        fresh=file,
        since=until - timedelta(days=88),
        fresh_since=until - timedelta(days=FRESH_DAYS),
        until=until,
        newest=until,
        columns={},
    )


def _confidences(kind: Nights, limits: Compare) -> list[float]:
    """Return the confidence of each night's comparison."""
    looks: list[Look] = []
    for night in range(kind.earlier + kind.nights):
        looks.insert(
            0, next_look(looks, limits, f"candidate {night}", "1", snapshot_until(START + timedelta(days=night)))
        )
    return [confidence_of(look, limits) for look in looks[: kind.nights][::-1]]
