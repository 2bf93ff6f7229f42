"""A small model and its warehouse: the larger x of an event is, the more likely the event is late."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pandas as pd

from continuous_training.documents import Run, Stopwatch

if TYPE_CHECKING:
    import pytest

MODELS = Path(__file__).parent / "models"  # src/ and tests/ of a repository with the models of these tests
TRAINING, MODEL = ((MODELS / "src/toy" / name).read_text() for name in ("training.yaml", "model.py"))


def events(days: int = 90, per_day: int = 40, start: str = "2020-01-01") -> pd.DataFrame:
    """Generate events; the larger their x, the more likely they are late."""
    random = np.random.default_rng(7)
    rows = days * per_day
    x = random.normal(size=rows)
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "seen": pd.Timestamp(start) + pd.to_timedelta(np.arange(rows) * (86400 // per_day), unit="s"),
            "shade": random.choice(["red", "green", "blue"], size=rows),
            "x": x,
            "y": np.where(random.random(rows) < 0.1, np.nan, random.normal(size=rows)),
            "late": random.random(rows) < 1 / (1 + np.exp(-1.5 * x)),
        }
    )


def store(frame: pd.DataFrame, path: Path = Path(".ct/warehouse.duckdb")) -> None:
    """Store events in a DuckDB warehouse."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    with duckdb.connect(path) as connection:
        connection.register("frame", frame)
        connection.execute("CREATE TABLE events AS SELECT * FROM frame")


def change(old: str, new: str, path: Path = Path("src/toy/training.yaml")) -> None:
    """Replace a part of training.yaml, or of another file; it must be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def import_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process import the model's package again, as the next run does."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
        monkeypatch.delitem(sys.modules, name)


def make_run(build_tag: str = "ct-1") -> Run:
    """Return the document of a run."""
    return Run(
        model="toy",
        as_of=datetime(2020, 3, 1),
        compute="local",
        force=False,
        promote="auto",
        trigger="manual",
        reason="",
        branch="main",
        commit="",
        build_url="",
        lock="",
        python="3.11",
        **Stopwatch(build_tag).stop(),
    )
