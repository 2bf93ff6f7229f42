"""A model of thirteen columns and as many rows as one likes, made by DuckDB; its drift is known before it is measured.

Every number has a standard deviation of 1, so a shift by 0.1 is a Wasserstein distance of 0.1 as the monitor has it.
"""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
from scipy.optimize import brentq

from continuous_training.comparison.evaluation import RecordedClassifier
from continuous_training.documents import Snapshot, SnapshotFile, Stopwatch
from continuous_training.monitoring import distances, reference
from continuous_training.registry import model_versions, runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings

MODEL = "wide"
DAYS = 56  # of training rows: eight windows of a week
SINCE = datetime(2020, 1, 1)
FRESH_ROWS = 20_000
ROWS_OF_A_FILE = 200_000  # of the predictions log
CATEGORIES = {"kind": 3, "place": 16, "product": 100, "customer": 300}  # how many values each has
SHAPES = {  # of numbers, from two that are even between 0 and 1
    "normal": "sqrt(-2 * ln({u})) * cos(2 * pi() * {v})",
    "waiting": "-ln({u})",
    "even": "{u} * sqrt(12)",
    "two_humps": "CASE WHEN {v} < 0.5 THEN 0.8 ELSE -0.8 END + 0.6 * sqrt(-2 * ln({u})) * cos(4 * pi() * {v})",
}
NUMBERS = {f"{shape}_{place}": shape for place in (1, 2) for shape in SHAPES} | {"gaps": "normal"}
FEATURES = [*NUMBERS, *CATEGORIES]
NULLS = {"gaps": 0.1}

TRAINING = f"""
warehouse: duckdb://.ct/warehouse.duckdb
data:
  time: seen
  target: late
  key: [id]
  train_days: {DAYS}
  fresh_days: 14
  query: SELECT * FROM events WHERE seen >= $since AND seen < $until
  columns:
    id: {{type: integer, feature: false}}
    seen: {{type: timestamp, feature: false}}
    late: {{type: boolean, feature: false}}
{"".join(f"    {name}: {{type: number, max_null_share: {NULLS.get(name, 0)}}}{chr(10)}" for name in NUMBERS)}
{"".join(f"    {name}: {{type: category}}{chr(10)}" for name in CATEGORIES)}
model: {{task: classification}}
compare: {{metric: roc_auc, resamples: 200, first: {{roc_auc: 0.6}}}}
"""


def rows(count: int, seed: int, moved: Mapping[str, float] | None = None) -> str:
    """Write the query of so many rows: a column `i` that counts them, and the features, some of them moved so far.

    Args:
        count: how many rows.
        seed: rows of another seed are drawn anew from the same distributions.
        moved: of each column that moves, the distance that the monitor would measure without any chance.
    """
    moved = moved or {}

    def even(name: str) -> str:
        begin = zlib.crc32(f"{seed} {name}".encode()) << 31  # no two draws hash the same numbers
        return f"((hash(i + {begin}) + 1) / 18446744073709551617)"

    def number(name: str) -> str:
        value = SHAPES[NUMBERS[name]].format(u=even(f"{name} u"), v=even(f"{name} v"))
        known = f"{value} + {moved.get(name, 0)}"
        return f"CASE WHEN {even(f'{name} null')} >= {NULLS[name]} THEN {known} END" if name in NULLS else known

    def category(name: str) -> str:
        value = f"'v' || CAST(floor({CATEGORIES[name]} * {even(name)} * {even(name)}) AS INTEGER)"
        if name not in moved:
            return value
        return f"CASE WHEN {even(f'{name} moved')} < {_share(name, moved[name])} THEN 'v0' ELSE {value} END"

    made = {name: number(name) for name in NUMBERS} | {name: category(name) for name in CATEGORIES}
    return f"SELECT i, {', '.join(f'{made[name]} AS {name}' for name in FEATURES)} FROM range({count}) AS counted(i)"


def snapshot(folder: Path, count: int) -> Snapshot:
    """Make a snapshot with so many training rows."""
    folder.mkdir()
    parts = {}
    for seed, (name, days, size) in enumerate([("train", DAYS, count), ("fresh", 14, FRESH_ROWS)]):
        path = folder / f"{name}.parquet"
        start = f"TIMESTAMP '{SINCE + timedelta(days=0 if name == 'train' else DAYS)}'"
        seen = f"{start} + to_microseconds(CAST({days * 86_400_000_000 / size} * i AS BIGINT))"
        late = f"{_likely()} > hash(-i) / 18446744073709551616"
        with duckdb.connect() as connection:
            connection.execute(
                f"COPY (SELECT i AS id, {seen} AS seen, {late} AS late, * EXCLUDE (i) FROM ({rows(size, seed)}))"
                f" TO '{path}' (FORMAT parquet)"
            )
        parts[name] = SnapshotFile(path=path, sha256="", rows=size)
    fresh_since = SINCE + timedelta(days=DAYS)
    return Snapshot(
        hash="",
        **parts,
        since=SINCE,
        fresh_since=fresh_since,
        until=fresh_since + timedelta(days=14),
        newest=fresh_since + timedelta(days=14),
        columns={},
        **Stopwatch("wide").stop(),
    )


def champion(client: MlflowClient, given: Settings, taken: Snapshot) -> Version:
    """Register a champion that has learnt a snapshot, as far as the monitor looks at one."""
    run_id = client.create_run(runs.experiment_id(client, MODEL)).info.run_id
    keep(client, run_id, given, taken)
    client.create_registered_model(MODEL)
    number = client.create_model_version(MODEL, f"runs:/{run_id}/model", run_id).version
    client.set_registered_model_alias(MODEL, model_versions.CHAMPION, number)
    found = model_versions.by_number(client, MODEL, number)
    assert found is not None
    return found


def keep(client: MlflowClient, run_id: str, given: Settings, taken: Snapshot) -> None:
    """Keep what was learnt, as Compare does."""
    fresh = pd.read_parquet(taken.fresh.path)
    likely = 1 / (1 + np.exp(-fresh["normal_1"].to_numpy()))
    message = RecordedClassifier(np.stack([1 - likely, likely], axis=1), np.array([False, True]))
    reference.keep(client, run_id, given, taken, message, fresh)


def log(folder: Path, count: int, version: str, moved: Mapping[str, float]) -> None:
    """Fill a predictions log with so many rows of the last days, a hundred in a request."""
    day = folder / MODEL / f"date={datetime.now(UTC) - timedelta(days=6):%Y-%m-%d}"
    day.mkdir(parents=True)
    start = f"TIMESTAMPTZ '{(datetime.now(UTC) - timedelta(days=6)).isoformat()}'"
    inputs = ", ".join(f"{name} := {name}" for name in FEATURES)
    with duckdb.connect() as connection:
        for place, first in enumerate(range(0, count, ROWS_OF_A_FILE)):
            size = min(ROWS_OF_A_FILE, count - first)
            made = f"SELECT *, {first} + i AS n, {_likely()} AS likely FROM ({rows(size, 1000 + place, moved)})"
            connection.execute(
                f"""
                COPY (
                    SELECT md5(CAST(n // 100 AS VARCHAR)) AS request_id, CAST(n % 100 AS INTEGER) AS row,
                        {start} + to_microseconds(CAST({5 * 86_400_000_000 / count} * n AS BIGINT)) AS time,
                        '{MODEL}' AS model, '{version}' AS model_version, 'champion' AS role,
                        struct_pack({inputs}) AS inputs, [1 - likely, likely] AS answers
                    FROM ({made})
                ) TO '{day}/{place:06}.parquet' (FORMAT parquet, COMPRESSION zstd)
                """
            )


def _likely() -> str:
    return "(1 / (1 + exp(-normal_1)))"


def _share(name: str, distance: float) -> float:
    """Return which share of all rows must become the first value for a distance."""
    values = CATEGORIES[name]
    before = np.diff(np.sqrt(np.arange(values + 1) / values))
    first = np.eye(values)[0]

    def beyond(share: float) -> float:
        return distances.jensenshannon(before, (1 - share) * before + share * first) - distance

    found: Any = brentq(beyond, 0, 1) if distance else 0.0
    return float(found)
