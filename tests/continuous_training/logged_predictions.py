"""Writes requests to the toy's champion to a real predictions log, like its training data or shifted."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from continuous_training.serving.predictions_log.columns import PredictionBatch
from continuous_training.serving.predictions_log.writer import PredictionsLog
from toy import events

INPUTS = ["shade", "x", "y"]


def newest_events(count: int = 1200, shift: float = 0, first_id: int = 0) -> pd.DataFrame:
    """Return the newest events of the toy's warehouse two weeks after its AS_OF, with x shifted."""
    frame = events().iloc[: 75 * 40].tail(count).reset_index(drop=True)
    frame["x"] += shift
    frame["id"] += first_id
    return frame


def true_probabilities(frame: pd.DataFrame) -> np.ndarray:
    """Return the class probabilities that generated the toy's events, of shape (rows, 2)."""
    late = 1 / (1 + np.exp(-1.5 * frame["x"].to_numpy()))
    return np.stack([1 - late, late], axis=1)


def log_predictions(frame: pd.DataFrame, **options: Any) -> None:
    """Write predictions for these rows to the log as a server's worker does; `make_batch` has the options."""
    address = os.environ.get("CT_PREDICTIONS") or ".ct/predictions"
    with tempfile.TemporaryDirectory() as state:
        worker = PredictionsLog(address, "toy", state=Path(state), count=lambda *_: None)
        worker.start()
        worker.append(make_batch(frame, **options))
        worker.close()


def make_batch(
    frame: pd.DataFrame,
    *,
    probabilities: np.ndarray | None = None,
    version: str = "1",
    role: str = "champion",
    age: timedelta = timedelta(hours=1),
    keys: bool = True,
    request: str = "",
) -> PredictionBatch:
    """Return the log entry of one call of the model with these rows."""
    at = datetime.now(UTC) - age
    return PredictionBatch(
        version=version,
        role=role,
        requests=[(request or f"{version}-{role}-{at.timestamp()}", range(len(frame)))],
        inputs={name: frame[name].tolist() for name in INPUTS if name in frame},
        keys={"id": frame["id"].tolist()} if keys else {},
        predictions=true_probabilities(frame) if probabilities is None else probabilities,
        time=at,
    )
