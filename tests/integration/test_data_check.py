"""New data start training: 20,000 flights come into a warehouse, Jenkins is pinged once, and the run trains on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import ibis
import psycopg
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from conftest import ROOT
from continuous_training import registry
from continuous_training.watermark import check, kept
from flight_delays import sample
from jenkins_stub import TOKEN, jenkins
from pipeline import Pipeline
from postgresql import Postgresql, needs_postgresql
from toy import change

pytestmark = pytest.mark.integration(seconds=60)

ROWS = 20_000
KNOWN = "SELECT * FROM flights WHERE time_hour < '2013-02-13'"
NEW = f"SELECT * FROM flights WHERE time_hour >= '2013-02-13' AND arr_delay IS NOT NULL ORDER BY time_hour LIMIT {ROWS}"
BEFORE, AFTER = "2013-02-15", "2013-03-12"  # every flight has landed two days after it was due to leave

Insert = Callable[[str], None]
TRAINING = Path("src/flight_delays/training.yaml")


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the sample: all flights of 2013."""
    path = tmp_path_factory.mktemp("sample") / "flights.duckdb"
    source = ibis.duckdb.connect(path)
    sample.load(source)
    source.disconnect()
    return path


@contextmanager
def in_duckdb(flights: Path) -> Iterator[tuple[str, Insert]]:
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
def in_postgresql(flights: Path) -> Iterator[tuple[str, Insert]]:
    rows = Path("rows.csv").resolve()

    def copy(query: str, table: str) -> None:
        with duckdb.connect(flights, read_only=True) as source:
            source.execute(f"COPY ({query}) TO '{rows}' (FORMAT csv, HEADER false)")
        with psycopg.connect(server.url) as connection, connection.cursor() as cursor:
            with cursor.copy(f"COPY {table} FROM STDIN (FORMAT csv)") as filling:
                filling.write(rows.read_bytes())
            cursor.execute(f"ANALYZE {table}")

    with Postgresql() as server:
        there, here = ibis.connect(server.url), ibis.duckdb.connect(flights, read_only=True)
        for name in sample.TABLES:
            there.create_table(name, schema=here.table(name).schema())
        there.disconnect()
        here.disconnect()
        for name in sample.TABLES[1:]:
            copy(f"SELECT * FROM {name}", name)
        yield server.url, lambda query: copy(query, "flights")


def data_check(url: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/data_check.py"), "--jenkins", url],
        env=os.environ | {"WEBHOOK_TOKEN": TOKEN, "AS_OF": AFTER},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("warehouse", [in_duckdb, pytest.param(in_postgresql, marks=needs_postgresql)])
def test_new_flights_are_one_ping_whose_run_trains_on_them(
    warehouse: Callable[[Path], Iterator[tuple[str, Insert]]],
    flights: Path,
    tracked: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(ROOT / "src/flight_delays", tracked / "src/flight_delays")
    change("train_days: 365", "train_days: 20", TRAINING)
    change("fresh_days: 28", "fresh_days: 14", TRAINING)
    change("max_iter: 150", "max_iter: 5", TRAINING)
    with warehouse(flights) as (url, insert):
        insert(KNOWN)
        first = Pipeline(monkeypatch, MODEL="flight_delays", AS_OF=BEFORE, CT_WAREHOUSE_URL=url)
        champion = first.promote(judged=False)
        watermark = kept.kept(first.client, champion)
        assert watermark
        assert watermark.rows == first.taken.rows
        with jenkins() as there:
            assert check.check(first.client, "flight_delays", there.url, AFTER).verdict == "nothing new"
            insert(NEW)
            said = [data_check(there.url) for _ in range(2)]
        [ping] = there.pings
        assert "Jenkins was asked for a training: model/main" in said[0]
        assert "a training on these rows was asked for" in said[1]
        assert ping["reason"].startswith(f"{ROWS:,} new rows since 2013-02-13 (+")

        asked = {name.upper(): ping[name] for name in ("model", "trigger", "reason", "as_of")}
        second = Pipeline(monkeypatch, BUILD_TAG="ct-2", **asked)
        second.train()
    lineage = second.client.get_run(second.candidate.run_id).data.tags
    assert (lineage[registry.TRIGGER], lineage[registry.REASON]) == ("data", ping["reason"])
    times = pq.read_table([second.taken.train.path, second.taken.fresh.path], columns=["time_hour"])["time_hour"]
    assert pc.sum(pc.greater_equal(times, watermark.until)).as_py() == ROWS
    assert int(lineage["ct.train_rows"]) + int(lineage["ct.fresh_rows"]) == second.taken.rows > ROWS
