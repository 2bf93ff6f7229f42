"""A small model of parcels with many types, and functions that run its query on any warehouse."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

import duckdb
import sqlglot
import yaml

from continuous_training.data import sources
from continuous_training.documents import Stopwatch
from continuous_training.monitoring.new_data.row_counts import count_rows
from continuous_training.settings import Settings, time_windows
from continuous_training.stages.snapshot import take_snapshot
from toy import make_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    import pytest

    from continuous_training.documents import Snapshot
    from continuous_training.monitoring.new_data.row_counts import RowCounts

TRAINING = """
data:
  time: sent
  target: late
  key: [number]
  label_delay_days: 1
  train_days: 2
  fresh_days: 1
  query: |
    WITH recent AS ( -- a share of doubles: each warehouse rounds exact numbers differently
      SELECT depot, CAST(sent AS DATE) AS day, COUNT(*) AS parcels,
             CAST(SUM(CASE WHEN late THEN 1 ELSE 0 END) AS DOUBLE) / COUNT(*) AS late_share
      FROM parcels
      WHERE sent >= CAST($since AS TIMESTAMP) - INTERVAL '1' DAY AND sent < CAST($until AS TIMESTAMP)
      GROUP BY depot, CAST(sent AS DATE)
    )
    SELECT parcels.sent, parcels.number, parcels.depot, parcels.note, parcels.weight, parcels.price, parcels.due,
           parcels.express, DATE_DIFF('day', CAST(parcels.sent AS DATE), parcels.due) AS days_left,
           depots.capacity, recent.late_share AS late_share_before, parcels.late
    FROM parcels
    LEFT JOIN depots ON depots.depot = parcels.depot
    LEFT JOIN recent ON recent.depot = parcels.depot AND recent.day = CAST(parcels.sent - INTERVAL '1' DAY AS DATE)
    WHERE parcels.sent >= CAST($since AS TIMESTAMP) AND parcels.sent < CAST($until AS TIMESTAMP)
  columns:
    sent: {type: timestamp, feature: false}
    number: {type: integer, feature: false}
    late: {type: boolean, feature: false}
    depot: {type: category}
    note: {type: category, max_null_share: 0.5}
    weight: {type: number, max_null_share: 0.2}
    price: {type: number}
    due: {type: timestamp}
    express: {type: boolean}
    days_left: {type: number}
    capacity: {type: integer, max_null_share: 0.5}
    late_share_before: {type: number, max_null_share: 1}
model: {task: classification}
compare: {metric: roc_auc, first: {roc_auc: 0.6}}
"""
TABLES = {
    "parcels": "sent TIMESTAMP, number BIGINT, depot VARCHAR, note VARCHAR, weight DOUBLE, price DECIMAL(10, 2), "
    "due DATE, express BOOLEAN, late BOOLEAN",
    "depots": "depot VARCHAR, capacity INTEGER",
}
DEPOTS = [("Århus", 120), ("Brno", None), ("Kyjiv", 300)]  # the rows have a fourth
NOTES = (None, "", "fragile", "it's «dry»\\", "línea\n2")
SINCE, DAYS, PER_DAY = datetime(2020, 1, 1), 6, 150
AS_OF = datetime(2020, 1, 6)


def parcels() -> list[tuple[Any, ...]]:
    """Return the rows of the table of parcels."""
    rows = []
    for number in range(DAYS * PER_DAY):
        sent = SINCE + timedelta(seconds=number * (86_400 // PER_DAY))
        depot = ("Århus", "Brno", "Kyjiv", "Łódź")[number % 7 % 4]
        weight = None if number % 10 == 0 else number * 0.37 % 11
        price = Decimal(number * 131 % 9_999) / 100
        due = sent.date() + timedelta(days=1 + number % 4)
        rows.append(
            (sent, 2**40 + number, depot, NOTES[number % 5], weight, price, due, number % 3 == 0, number * 17 % 5 == 0)
        )
    return rows


def load(path: Path) -> None:
    """Create a DuckDB warehouse with both tables."""
    with duckdb.connect(path) as connection:
        for (name, columns), rows in zip(TABLES.items(), (parcels(), DEPOTS), strict=True):
            connection.execute(f"CREATE TABLE {name} ({columns})")
            connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)


def statements(dialect: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each table, and the statement that creates it in a warehouse of another dialect."""
    for name, columns in TABLES.items():
        yield name, sqlglot.transpile(f"CREATE TABLE {name} ({columns})", read="duckdb", write=dialect)[0]


@cache
def load_parcels_settings() -> Settings:
    """Return the settings of the model."""
    return Settings.model_validate(yaml.safe_load(TRAINING))


def open_query(query: str) -> sources.Source:
    """Open the warehouse at CT_WAREHOUSE_URL for another query."""
    settings = load_parcels_settings()
    return sources.open_source(settings.model_copy(update={"data": settings.data.model_copy(update={"query": query})}))


def count_days(url: str, patch: pytest.MonkeyPatch) -> RowCounts:
    """Count the rows of each day in the warehouse at an address, as the watermark does."""
    patch.setenv("CT_WAREHOUSE_URL", url)
    settings = load_parcels_settings()
    since, fresh_since, until = time_windows(settings.data, AS_OF)
    return count_rows(sources.open_source(settings).table(since, until), settings.data, fresh_since)


def snapshot_from(url: str, patch: pytest.MonkeyPatch, folder: Path) -> Snapshot:
    """Take the snapshot from the warehouse at an address, in a folder."""
    patch.setenv("CT_WAREHOUSE_URL", url)
    patch.chdir(folder)
    run = make_run().model_copy(update={"model": "parcels", "as_of": AS_OF})
    return take_snapshot(run, load_parcels_settings(), Stopwatch("ct-1"))
