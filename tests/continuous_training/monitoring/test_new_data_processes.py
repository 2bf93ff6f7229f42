"""New data start a training: 20,000 flights are inserted, Jenkins is pinged once, and the run trains on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path

import duckdb
import ibis
import psycopg
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from conftest import ROOT
from continuous_training.monitoring.new_data import check
from continuous_training.monitoring.new_data.row_counts import count_rows
from continuous_training.monitoring.new_data.watermark import load_watermark
from continuous_training.registry import runs
from continuous_training.settings import Data
from flight_delays import sample
from jenkins_stub import TOKEN, jenkins
from pipeline import Pipeline
from postgresql import Postgresql, needs_postgresql
from toy import TRAINING as TOY
from toy import change

pytestmark = pytest.mark.integration(seconds=60)

ROWS = 20_000
OLD_FLIGHTS = "SELECT * FROM flights WHERE time_hour < '2013-02-13'"
NEW_FLIGHTS = (
    f"SELECT * FROM flights WHERE time_hour >= '2013-02-13' AND arr_delay IS NOT NULL ORDER BY time_hour LIMIT {ROWS}"
)
BEFORE, AFTER = "2013-02-15", "2013-03-12"  # every flight has landed two days after it was due to leave

Insert = Callable[[str], None]
TRAINING = Path("src/flight_delays/training.yaml")


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Load the sample: all flights of 2013."""
    path = tmp_path_factory.mktemp("sample") / "flights.duckdb"
    source = ibis.duckdb.connect(path)
    sample.load(source)
    source.disconnect()
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    with Postgresql() as postgresql:
        yield postgresql


@contextmanager
def in_duckdb(flights: Path, _: pytest.FixtureRequest) -> Iterator[tuple[str, Insert]]:
    path = Path(".ct/flights.duckdb").resolve()

    def insert(query: str) -> None:
        with duckdb.connect(path) as connection:
            connection.execute(f"ATTACH '{flights}' AS sample (READ_ONLY)")
            connection.execute(f"INSERT INTO flights {query.replace('FROM flights', 'FROM sample.flights')}")

    shutil.copy(flights, path)
    with duckdb.connect(path) as connection:
        connection.execute("DELETE FROM flights")
    yield f"duckdb://{path}", insert


@contextmanager
def in_postgresql(flights: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, Insert]]:
    server: Postgresql = request.getfixturevalue("server")
    rows = Path("rows.csv").resolve()

    def copy(query: str, table: str) -> None:
        with duckdb.connect(flights, read_only=True) as source:
            source.execute(f"COPY ({query}) TO '{rows}' (FORMAT csv, HEADER false)")
        with psycopg.connect(server.url) as connection, connection.cursor() as cursor:
            with cursor.copy(f"COPY {table} FROM STDIN (FORMAT csv)") as writer:
                writer.write(rows.read_bytes())
            cursor.execute(f"ANALYZE {table}")

    target, source = ibis.connect(server.url), ibis.duckdb.connect(flights, read_only=True)
    for name in sample.TABLES:
        target.create_table(name, schema=source.table(name).schema())
    target.disconnect()
    source.disconnect()
    for name in sample.TABLES[1:]:
        copy(f"SELECT * FROM {name}", name)
    yield server.url, lambda query: copy(query, "flights")


def data_check(url: str) -> str:
    process = subprocess.run(
        [sys.executable, str(ROOT / "scripts/data_check.py"), "--jenkins", url],
        env=os.environ | {"WEBHOOK_TOKEN": TOKEN, "AS_OF": AFTER},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.mark.parametrize("warehouse", [in_duckdb, pytest.param(in_postgresql, marks=needs_postgresql)])
def test_new_flights_are_one_ping_whose_run_trains_on_them(
    warehouse: Callable[[Path, pytest.FixtureRequest], AbstractContextManager[tuple[str, Insert]]],
    flights: Path,
    tracked: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(ROOT / "src/flight_delays", tracked / "src/flight_delays")
    change("train_days: 365", "train_days: 20", TRAINING)
    change("fresh_days: 28", "fresh_days: 14", TRAINING)
    change("max_iter: 150", "max_iter: 5", TRAINING)
    with warehouse(flights, request) as (url, insert):
        insert(OLD_FLIGHTS)
        first = Pipeline(monkeypatch, MODEL="flight_delays", AS_OF=BEFORE, CT_WAREHOUSE_URL=url)
        champion = first.promote(compare=False)
        watermark = load_watermark(first.client, champion)
        assert watermark
        assert watermark.rows == first.snapshot.rows
        with jenkins() as there:
            assert check.check_new_data(first.client, "flight_delays", there.url, AFTER).verdict == "nothing new"
            insert(NEW_FLIGHTS)
            outputs = [data_check(there.url) for _ in range(2)]
        [ping] = there.pings
        assert "Jenkins was asked for a training: model/main" in outputs[0]
        assert "a training on these rows was requested" in outputs[1]
        assert ping["reason"].startswith(f"{ROWS:,} new rows since 2013-02-13 (+")

        parameters = {name.upper(): ping[name] for name in ("model", "trigger", "reason", "as_of")}
        second = Pipeline(monkeypatch, BUILD_TAG="ct-2", **parameters)
        second.train()
    lineage = second.client.get_run(second.candidate.run_id).data.tags
    assert (lineage[runs.TRIGGER], lineage[runs.REASON]) == ("data", ping["reason"])
    times = pq.read_table([second.snapshot.train.path, second.snapshot.fresh.path], columns=["time_hour"])["time_hour"]
    assert pc.sum(pc.greater_equal(times, watermark.until)).as_py() == ROWS
    assert int(lineage["ct.train_rows"]) + int(lineage["ct.fresh_rows"]) == second.snapshot.rows > ROWS


EDGE_CASES = """
SELECT CAST(id AS INTEGER) AS id, CAST(seen AS {timestamp}) AS seen, CAST(late AS BOOLEAN) AS late, shade,
       CAST(x AS DOUBLE PRECISION) AS x, CAST(y AS DECIMAL(18, 3)) AS y
FROM (VALUES
    (1, '2020-01-01 00:00:00.5+00', TRUE, 'red', 'NaN', 0.125),
    (2, '2020-01-01 23:59:59.999+00', FALSE, 'blå|', '-Infinity', -0.001),
    (3, '2020-01-02 00:00:00+00', NULL, '∅', '1e300', 1234567.5),
    (-4, '2020-01-01 22:00:00+00', TRUE, '', '-0.0', NULL),
    (5, '1969-12-31 23:59:59+00', TRUE, NULL, '0.1', 29.0),
    (6, NULL, FALSE, '灰', NULL, 0.29)
) AS rows(id, seen, late, shade, x, y)
"""


@needs_postgresql
@pytest.mark.parametrize("timestamp", ["TIMESTAMPTZ", "TIMESTAMP"])
def test_duckdb_and_postgresql_compute_the_same_counts_of_edge_cases(timestamp: str, server: Postgresql) -> None:
    data = Data.model_validate(yaml.safe_load(TOY)["data"])
    counts = []
    for warehouse in (ibis.duckdb.connect(), ibis.connect(server.url)):
        warehouse.raw_sql("SET TimeZone = 'UTC'")
        rows = warehouse.sql(EDGE_CASES.format(timestamp=timestamp))
        counts.append(count_rows(rows, data, datetime(2020, 1, 2)))
        warehouse.disconnect()
    assert counts[0] == counts[1]
    assert {f"{day}": count.rows for day, count in counts[0].before.items()} == {"2020-01-01": 3, "1969-12-31": 1}
    assert {f"{day}": count.rows for day, count in counts[0].after.items()} == {"2020-01-02": 1}
    assert counts[0].without_time == 1
