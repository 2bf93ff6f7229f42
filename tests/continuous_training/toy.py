"""A small model and its warehouse: events that are late the likelier the larger x is."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from continuous_training.documents import Run, Stopwatch

TRAINING = """
warehouse: duckdb://.ct/warehouse.duckdb
data:
  time: seen
  target: late
  key: [id]
  label_delay_days: 1
  train_days: 60
  fresh_days: 14
  query: SELECT id, seen, shade, x, y, late FROM events WHERE seen >= $since AND seen < $until
  known_afterwards: [regret]
  columns:
    id: {type: integer, feature: false}
    seen: {type: timestamp, feature: false}
    late: {type: boolean, feature: false}
    shade: {type: category, values: [red, green, blue]}
    x: {type: number, min: -10, max: 10}
    y: {type: number, max_null_share: 0.2}
checks: {min_train_rows: 100, min_fresh_rows: 50, max_age_days: 3, max_single_feature_auc: 0.95}
model:
  task: classification
  parameters: {C: 1.0}
  trusted_types: [numpy.dtype]
compare:
  metric: roc_auc
  report: [neg_log_loss]
  resamples: 200
  first: {roc_auc: 0.6}
serving: {watch_seconds: 0}
"""

MODEL = """
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def build(categories, numbers, **parameters):
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), categories), (SimpleImputer(keep_empty_features=True), numbers)
    )
    return make_pipeline(columns, LogisticRegression(**parameters))
"""


def events(days: int = 90, a_day: int = 40, start: str = "2020-01-01") -> pd.DataFrame:
    """Make events that are late the likelier the larger x is."""
    random = np.random.default_rng(7)
    rows = days * a_day
    x = random.normal(size=rows)
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "seen": pd.Timestamp(start) + pd.to_timedelta(np.arange(rows) * (86400 // a_day), unit="s"),
            "shade": random.choice(["red", "green", "blue"], size=rows),
            "x": x,
            "y": np.where(random.random(rows) < 0.1, np.nan, random.normal(size=rows)),
            "late": random.random(rows) < 1 / (1 + np.exp(-1.5 * x)),
        }
    )


def store(frame: pd.DataFrame, path: Path = Path(".ct/warehouse.duckdb")) -> None:
    """Make these events the warehouse."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    with duckdb.connect(path) as connection:
        connection.register("frame", frame)
        connection.execute("CREATE TABLE events AS SELECT * FROM frame")


def change(old: str, new: str, path: Path = Path("src/toy/training.yaml")) -> None:
    """Replace a part of training.yaml, or of another file, that is surely there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def a_run(build_tag: str = "ct-1") -> Run:
    """Make a document of a run of this model."""
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
