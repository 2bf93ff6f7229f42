"""What a champion of the toy model is asked: rows like those it learnt, or others, in a real predictions log."""

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


def rows(count: int = 1200, shift: float = 0, start: int = 0) -> pd.DataFrame:
    """Give the newest events of the toy's warehouse two weeks after its AS_OF, with x moved by so much."""
    frame = events().iloc[: 75 * 40].tail(count).reset_index(drop=True)
    frame["x"] += shift
    frame["id"] += start
    return frame


def certain(frame: pd.DataFrame) -> np.ndarray:
    """Answer as a model does that knows how the toy's events come about."""
    late = 1 / (1 + np.exp(-1.5 * frame["x"].to_numpy()))
    return np.stack([1 - late, late], axis=1)


def log(frame: pd.DataFrame, **how: Any) -> None:
    """Log that these rows were answered, as `batch` has it and as a server's worker does it."""
    address = os.environ.get("CT_PREDICTIONS") or ".ct/predictions"
    with tempfile.TemporaryDirectory() as state:
        worker = PredictionsLog(address, "toy", state=Path(state), count=lambda *_: None)
        worker.start()
        worker.append(batch(frame, **how))
        worker.close()


def batch(
    frame: pd.DataFrame,
    *,
    answers: np.ndarray | None = None,
    version: str = "1",
    role: str = "champion",
    ago: timedelta = timedelta(hours=1),
    keys: bool = True,
    request: str = "",
) -> PredictionBatch:
    """Give what one call of the model answered about these rows."""
    at = datetime.now(UTC) - ago
    return PredictionBatch(
        version=version,
        role=role,
        requests=[(request or f"{version}-{role}-{at.timestamp()}", range(len(frame)))],
        inputs={name: frame[name].tolist() for name in INPUTS if name in frame},
        keys={"id": frame["id"].tolist()} if keys else {},
        predictions=certain(frame) if answers is None else answers,
        time=at,
    )
