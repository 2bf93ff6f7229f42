"""BigQuery: Google's own client asks an emulator over HTTP, which answers from DuckDB as the real service was seen to.

None of this was ever run against the real service. The emulator does not know who asks, and takes a DATETIME for a
TIMESTAMP, which BigQuery refuses to compare: a column of the latter must be cast in the query. Credentials are not
exchanged for tokens here, since that is done elsewhere. What BigQuery says to somebody who may not run queries, and to
one too many, is played back as its documentation has it. Rows over gRPC (`?storage_api=true`) were never had at all:
the emulator does not keep an answer for who comes to fetch it there.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest
import requests

import flights
from apart import served
from continuous_training.data import warehouse
from continuous_training.errors import UserError
from listening import Heard, listening
from server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibis.expr.types import Table

pytestmark = pytest.mark.integration(seconds=5)

URL = "bigquery://acme/air"
LONG_AGO, LONG_HENCE = datetime(1900, 1, 1), datetime(2100, 1, 1)
WHENEVER = "flights.time_hour >= $since AND flights.time_hour < $until"
PAGE = 10_000  # rows that the emulator sends at a time


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with the same flights in a DuckDB warehouse."""
    folder = tmp_path_factory.mktemp("flights")
    flights.load(folder / "flights.duckdb")
    return folder


@pytest.fixture(scope="module")
def ports(python_of: Callable[[str], Path]) -> Iterator[tuple[int, int]]:
    """Start what stands for BigQuery: REST and gRPC."""
    rest, grpc = free_port(), free_port()
    where = ("--rest-port", str(rest), "--grpc-port", str(grpc), "--log-level", "error")
    with served(
        python_of("tests/continuous_training/bigquery"),
        "tests/continuous_training/bigquery/server.py",
        "start",
        *where,
        port=rest,
    ):
        yield rest, grpc


@pytest.fixture(scope="module")
def there(ports: tuple[int, int], home: Path) -> str:
    """Fill it with flights; return where it is."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery  # a second that only whoever runs this pays

    address = f"http://127.0.0.1:{ports[0]}"
    owner = bigquery.Client("acme", AnonymousCredentials(), client_options={"api_endpoint": address})
    owner.create_dataset("air")
    with duckdb.connect(home / "flights.duckdb", read_only=True) as source:
        for name, made in flights.statements(home / "flights.duckdb", "bigquery"):
            owner.query_and_wait(made.replace("TABLE ", "TABLE air."))
            source.execute(f"COPY {name} TO '{home}/{name}.parquet'")
            with (home / f"{name}.parquet").open("rb") as rows:
                form = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND")
                owner.load_table_from_file(rows, f"acme.air.{name}", job_config=form).result()
    return address


@pytest.fixture(autouse=True)
def _reader(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be somebody to whom no credentials were given: real ones are exchanged for tokens beyond this machine."""
    from google.auth.credentials import AnonymousCredentials

    monkeypatch.setattr("google.auth.default", lambda **_: (AnonymousCredentials(), "acme"))
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", there)
    monkeypatch.setenv("CT_WAREHOUSE_URL", URL)


def ask(query: str) -> Table:
    return warehouse.rows(warehouse.connect(flights.two_days()), query, LONG_AGO, LONG_HENCE)


def test_the_same_flights_are_the_same_snapshot_as_from_duckdb(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = flights.snapshot_from(f"duckdb://{home}/flights.duckdb", monkeypatch, tmp_path)
    assert flights.snapshot_from(URL, monkeypatch, tmp_path).hash == here.hash
    assert here.train.rows > 100


def test_the_watermark_counts_the_same_rows_as_in_duckdb(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = flights.counted_at(f"duckdb://{home}/flights.duckdb", monkeypatch)
    assert flights.counted_at(URL, monkeypatch) == here


def test_rows_come_page_by_page() -> None:
    twice = ask(f"SELECT flights.flight, planes.seats FROM flights CROSS JOIN planes WHERE seats > 180 AND {WHENEVER}")
    pages = [page.num_rows for page in warehouse.stream(twice)]
    assert len(pages) > 1
    assert max(pages) == PAGE


def test_a_time_that_is_not_known_stays_unknown() -> None:
    seen = ask(f"SELECT CASE WHEN origin = 'JFK' THEN time_hour END AS seen FROM flights WHERE {WHENEVER}")
    others = ask(f"SELECT flight FROM flights WHERE {WHENEVER} AND origin <> 'JFK'")
    assert sum(page["seen"].null_count for page in warehouse.stream(seen)) == others.count().execute() > 0


@pytest.mark.parametrize(
    ("table", "message"),
    [("nothing", "Table acme.air.nothing was not found"), ("elsewhere.flights", "Access Denied: Table acme:elsewhere")],
)
def test_a_table_that_cannot_be_read_is_named(table: str, message: str) -> None:
    with pytest.raises(UserError, match=f"refuses the query: .*{message}") as raised:
        ask(f"SELECT * FROM {table} WHERE $since < $until")
    assert "\n" not in str(raised.value)


def message(reason: str, message: str) -> str:
    """Return an error as BigQuery tells it."""
    return json.dumps({"error": {"message": message, "errors": [{"reason": reason, "message": message}]}})


def test_who_may_not_run_queries_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = "Access Denied: Project acme: User does not have bigquery.jobs.create permission in project acme."
    with listening(lambda _: (403, message("accessDenied", denied))) as address:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", address)
        with pytest.raises(UserError, match=f"refuses the query: .*{denied}") as raised:
            ask(f"SELECT * FROM flights WHERE {WHENEVER}")
    assert "\n" not in str(raised.value)


def test_a_service_that_is_busy_is_asked_again(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter([503])

    def answer(heard: Heard) -> tuple[int, str]:
        if status := next(busy, None):
            return status, message("backendError", "Visibility check was unavailable. Please retry the request")
        method = "POST" if heard.body else "GET"
        passed_on = requests.request(
            method, there + heard.path, data=heard.body, headers={"Content-Type": "application/json"}, timeout=30
        )
        return passed_on.status_code, passed_on.text

    with listening(answer) as address:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", address)
        assert ask(f"SELECT flight FROM flights WHERE {WHENEVER}").count().execute() > 100
    assert next(busy, None) is None


def test_without_credentials_nobody_is_asked_to_log_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from google.auth import _default as real

    monkeypatch.setattr("google.auth.default", real.default)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # nor is a cloud looked for
    with pytest.raises(UserError, match="cannot be opened: .*credentials were not found") as raised:
        warehouse.connect(flights.two_days())
    assert "\n" not in str(raised.value)


def test_an_address_without_a_dataset_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT_WAREHOUSE_URL", "bigquery://acme")
    with pytest.raises(UserError, match="names no dataset: write it as bigquery://project/dataset"):
        warehouse.connect(flights.two_days())
