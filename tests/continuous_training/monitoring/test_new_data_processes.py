"""New data start a training: 2,000 events are inserted, Jenkins is pinged once, and the run trains on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path

import duckdb
import ibis
import pandas as pd
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
from forked_python import ForkedPython
from jenkins_stub import TOKEN, jenkins
from pipeline import Pipeline
from postgresql import Postgresql, needs_postgresql
from toy import TRAINING, change, events, store

pytestmark = pytest.mark.integration(seconds=30)

ROWS = 2000
OLD = events(days=59)  # until 2020-02-29, the end of the data of a run with AS_OF 2020-03-01
NEW = events(days=10, per_day=ROWS // 10, start="2020-02-29").assign(id=lambda frame: frame["id"] + len(OLD))
LATER = "2020-03-11"
COLUMNS = "id BIGINT, seen TIMESTAMP, shade TEXT, x DOUBLE PRECISION, y DOUBLE PRECISION, late BOOLEAN"

Insert = Callable[[pd.DataFrame], None]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    with Postgresql() as postgresql:
        yield postgresql


@contextmanager
def in_duckdb(_: pytest.FixtureRequest) -> Iterator[tuple[str, Insert]]:
    path = Path(".ct/new.duckdb").resolve()

    def insert(frame: pd.DataFrame) -> None:
        with duckdb.connect(path) as connection:
            connection.register("frame", frame)
            connection.execute("INSERT INTO events SELECT * FROM frame")

    store(OLD, path)
    yield f"duckdb://{path}", insert


@contextmanager
def in_postgresql(request: pytest.FixtureRequest) -> Iterator[tuple[str, Insert]]:
    server: Postgresql = request.getfixturevalue("server")

    def insert(frame: pd.DataFrame) -> None:
        with psycopg.connect(server.url) as connection, connection.cursor() as cursor:
            with cursor.copy("COPY events FROM STDIN (FORMAT csv)") as writer:
                writer.write(frame.to_csv(index=False, header=False))
            cursor.execute("ANALYZE events")

    with psycopg.connect(server.url) as connection:
        connection.execute(f"CREATE TABLE events ({COLUMNS})")
    insert(OLD)
    yield server.url, insert


def data_check(python: ForkedPython, url: str) -> str:
    process = python.run(ROOT / "scripts/data_check.py", "--jenkins", url, WEBHOOK_TOKEN=TOKEN, AS_OF=LATER)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.mark.usefixtures("mlflow_workspace")
@pytest.mark.parametrize("warehouse", [in_duckdb, pytest.param(in_postgresql, marks=needs_postgresql)])
def test_new_rows_cause_one_ping_and_its_run_trains_on_them(
    warehouse: Callable[[pytest.FixtureRequest], AbstractContextManager[tuple[str, Insert]]],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    forked_python: ForkedPython,
) -> None:
    change("serving: {", "triggers: {min_new_rows: 100}\nserving: {")
    with warehouse(request) as (url, insert):
        first = Pipeline(monkeypatch, CT_WAREHOUSE_URL=url)
        champion = first.promote(compare=False)
        watermark = load_watermark(first.client, champion)
        assert watermark
        assert watermark.rows == first.snapshot.rows == len(OLD)
        with jenkins() as stub:
            assert check.check_new_data(first.client, "toy", stub.url, LATER).verdict == "nothing new"
            insert(NEW)
            outputs = [data_check(forked_python, stub.url) for _ in range(2)]
        [ping] = stub.pings
        assert "Triggered a training in Jenkins: model/main" in outputs[0]
        assert "a training on these rows was requested" in outputs[1]
        assert ping["reason"].startswith(f"{ROWS:,} new rows since 2020-02-29 (+")

        parameters = {name.upper(): ping[name] for name in ("model", "trigger", "reason", "as_of")}
        second = Pipeline(monkeypatch, BUILD_TAG="ct-2", **parameters)
        second.train()
    lineage = second.client.get_run(second.candidate.run_id).data.tags
    assert (lineage[runs.TRIGGER], lineage[runs.REASON]) == ("data", ping["reason"])
    times = pq.read_table([second.snapshot.train.path, second.snapshot.fresh.path], columns=["seen"])["seen"]
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
    data = Data.model_validate(yaml.safe_load(TRAINING)["data"])
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
