"""A model of thirteen columns whose rows DuckDB generates, in any number and with drift of known distances.

Every number has a standard deviation of 1, so that a shift by 0.1 is a Wasserstein distance of 0.1 in the monitor.
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

from continuous_training.comparison.evaluation import ClassifierPredictions
from continuous_training.documents import Snapshot, SnapshotFile, Stopwatch
from continuous_training.monitoring import distances, reference
from continuous_training.registry import model_versions, runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings

MODEL = "wide"
TRAIN_DAYS = 56  # eight windows of a week
SINCE = datetime(2020, 1, 1)
FRESH_ROWS = 20_000
ROWS_PER_FILE = 200_000  # of the predictions log
CATEGORIES = {"kind": 3, "place": 16, "product": 100, "customer": 300}  # the number of values of each
SHAPES = {  # SQL of each distribution, from two uniform random numbers u and v
    "normal": "sqrt(-2 * ln({u})) * cos(2 * pi() * {v})",
    "waiting": "-ln({u})",
    "even": "{u} * sqrt(12)",
    "two_humps": "CASE WHEN {v} < 0.5 THEN 0.8 ELSE -0.8 END + 0.6 * sqrt(-2 * ln({u})) * cos(4 * pi() * {v})",
}
NUMBERS = {f"{shape}_{number}": shape for number in (1, 2) for shape in SHAPES} | {"gaps": "normal"}
FEATURES = [*NUMBERS, *CATEGORIES]
NULL_SHARES = {"gaps": 0.1}

TRAINING = f"""
warehouse: duckdb://.ct/warehouse.duckdb
data:
  time: seen
  target: late
  key: [id]
  train_days: {TRAIN_DAYS}
  fresh_days: 14
  query: SELECT * FROM events WHERE seen >= $since AND seen < $until
  columns:
    id: {{type: integer, feature: false}}
    seen: {{type: timestamp, feature: false}}
    late: {{type: boolean, feature: false}}
{"".join(f"    {name}: {{type: number, max_null_share: {NULL_SHARES.get(name, 0)}}}{chr(10)}" for name in NUMBERS)}
{"".join(f"    {name}: {{type: category}}{chr(10)}" for name in CATEGORIES)}
model: {{task: classification}}
compare: {{metric: roc_auc, resamples: 200, first: {{roc_auc: 0.6}}}}
"""


def rows_query(count: int, seed: int, drift: Mapping[str, float] | None = None) -> str:
    """Return the query that generates rows: a row number `i` and the features.

    Args:
        count: the number of rows.
        seed: another seed is another sample of the same distributions.
        drift: for each column that drifts, the distance that the monitor would measure without sampling noise.
    """
    drift = drift or {}

    def uniform(name: str) -> str:
        begin = zlib.crc32(f"{seed} {name}".encode()) << 31  # no two columns hash the same numbers
        return f"((hash(i + {begin}) + 1) / 18446744073709551617)"

    def number(name: str) -> str:
        value = SHAPES[NUMBERS[name]].format(u=uniform(f"{name} u"), v=uniform(f"{name} v"))
        shifted_value = f"{value} + {drift.get(name, 0)}"
        if name not in NULL_SHARES:
            return shifted_value
        return f"CASE WHEN {uniform(f'{name} null')} >= {NULL_SHARES[name]} THEN {shifted_value} END"

    def category(name: str) -> str:
        value = f"'v' || CAST(floor({CATEGORIES[name]} * {uniform(name)} * {uniform(name)}) AS INTEGER)"
        if name not in drift:
            return value
        return (
            f"CASE WHEN {uniform(f'{name} drift')} < {_first_value_share(name, drift[name])} THEN 'v0' ELSE {value} END"
        )

    columns = {name: number(name) for name in NUMBERS} | {name: category(name) for name in CATEGORIES}
    return f"SELECT i, {', '.join(f'{columns[name]} AS {name}' for name in FEATURES)} FROM range({count}) AS numbers(i)"


def make_snapshot(folder: Path, count: int) -> Snapshot:
    """Write a snapshot with `count` training rows."""
    folder.mkdir()
    parts = {}
    for seed, (name, days, size) in enumerate([("train", TRAIN_DAYS, count), ("fresh", 14, FRESH_ROWS)]):
        path = folder / f"{name}.parquet"
        start = f"TIMESTAMP '{SINCE + timedelta(days=0 if name == 'train' else TRAIN_DAYS)}'"
        seen = f"{start} + to_microseconds(CAST({days * 86_400_000_000 / size} * i AS BIGINT))"
        late = f"{_probability()} > hash(-i) / 18446744073709551616"
        with duckdb.connect() as connection:
            connection.execute(
                f"COPY (SELECT i AS id, {seen} AS seen, {late} AS late, * EXCLUDE (i) FROM ({rows_query(size, seed)}))"
                f" TO '{path}' (FORMAT parquet)"
            )
        parts[name] = SnapshotFile(path=path, sha256="", rows=size)
    fresh_since = SINCE + timedelta(days=TRAIN_DAYS)
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


def register_champion(client: MlflowClient, settings: Settings, snapshot: Snapshot) -> Version:
    """Register a champion that has a reference and no model."""
    run_id = client.create_run(runs.experiment_id(client, MODEL)).info.run_id
    save_reference(client, run_id, settings, snapshot)
    client.create_registered_model(MODEL)
    number = client.create_model_version(MODEL, f"runs:/{run_id}/model", run_id).version
    client.set_registered_model_alias(MODEL, model_versions.CHAMPION, number)
    version = model_versions.by_number(client, MODEL, number)
    assert version is not None
    return version


def save_reference(client: MlflowClient, run_id: str, settings: Settings, snapshot: Snapshot) -> None:
    """Save the reference of a snapshot, as Compare does."""
    fresh = pd.read_parquet(snapshot.fresh.path)
    late = 1 / (1 + np.exp(-fresh["normal_1"].to_numpy()))
    predictions = ClassifierPredictions(np.stack([1 - late, late], axis=1), np.array([False, True]))
    reference.save_reference(client, run_id, settings, snapshot, predictions, fresh)


def write_log(folder: Path, count: int, version: str, drift: Mapping[str, float]) -> None:
    """Write a predictions log with `count` rows in the last days, a hundred per request."""
    day = folder / MODEL / f"date={datetime.now(UTC) - timedelta(days=6):%Y-%m-%d}"
    day.mkdir(parents=True)
    start = f"TIMESTAMPTZ '{(datetime.now(UTC) - timedelta(days=6)).isoformat()}'"
    inputs = ", ".join(f"{name} := {name}" for name in FEATURES)
    with duckdb.connect() as connection:
        for number, first in enumerate(range(0, count, ROWS_PER_FILE)):
            size = min(ROWS_PER_FILE, count - first)
            rows = rows_query(size, 1000 + number, drift)
            connection.execute(
                f"""
                COPY (
                    SELECT md5(CAST(n // 100 AS VARCHAR)) AS request_id, CAST(n % 100 AS INTEGER) AS row,
                        {start} + to_microseconds(CAST({5 * 86_400_000_000 / count} * n AS BIGINT)) AS time,
                        '{MODEL}' AS model, '{version}' AS model_version, 'champion' AS role,
                        struct_pack({inputs}) AS inputs, [1 - late, late] AS answers
                    FROM (SELECT *, {first} + i AS n, {_probability()} AS late FROM ({rows}))
                ) TO '{day}/{number:06}.parquet' (FORMAT parquet, COMPRESSION zstd)
                """
            )


def _probability() -> str:
    return "(1 / (1 + exp(-normal_1)))"


def _first_value_share(name: str, distance: float) -> float:
    """Return the share of rows that must get the first value for a Jensen-Shannon distance."""
    values = CATEGORIES[name]
    before = np.diff(np.sqrt(np.arange(values + 1) / values))
    first = np.eye(values)[0]

    def excess(share: float) -> float:
        return distances.jensen_shannon(before, (1 - share) * before + share * first) - distance

    root: Any = brentq(excess, 0, 1) if distance else 0.0
    return float(root)
