"""BigQuery: Google's own client sends requests to an emulator, which responds as the real service was observed to.

None of this was ever run against the real service. The emulator does not check accounts, and accepts a DATETIME in
place of a TIMESTAMP, which BigQuery refuses to compare: a TIMESTAMP column must be cast in the query. Credentials are
not exchanged for tokens here. The errors for an account that may not run queries, and for too many requests, are from
the documentation. Rows over gRPC (`?storage_api=true`) were never fetched: the emulator stores no results for it.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest
import requests

import parcels_model
from conftest import TIMEOUT
from continuous_training.data import sources
from continuous_training.errors import UserError
from external_server import run_server
from http_stub import Request, http_stub
from ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibis.expr.types import Table

pytestmark = pytest.mark.integration(seconds=5)

URL = "bigquery://acme/post"
BEGIN, END = datetime(1900, 1, 1), datetime(2100, 1, 1)
WINDOW = "sent >= $since AND sent < $until"
PAGE_ROWS = 10_000  # of the emulator


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a folder with the same rows in a DuckDB warehouse."""
    folder = tmp_path_factory.mktemp("parcels")
    parcels_model.load(folder / "parcels.duckdb")
    return folder


@pytest.fixture(scope="module")
def ports(env_python: Callable[[str], Path]) -> Iterator[tuple[int, int]]:
    """Start the emulator; return its ports for REST and for gRPC."""
    rest, grpc = free_port(), free_port()
    options = ("--rest-port", str(rest), "--grpc-port", str(grpc), "--log-level", "error")
    with run_server(
        env_python("tests/continuous_training/bigquery"),
        "tests/continuous_training/bigquery/server.py",
        "start",
        *options,
        port=rest,
    ):
        yield rest, grpc


@pytest.fixture(scope="module")
def emulator(ports: tuple[int, int], folder: Path) -> str:
    """Fill the emulator's tables; return its address."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery  # here, because its import takes a second

    address = f"http://127.0.0.1:{ports[0]}"
    admin = bigquery.Client("acme", AnonymousCredentials(), client_options={"api_endpoint": address})
    admin.create_dataset("post")
    with duckdb.connect(folder / "parcels.duckdb", read_only=True) as warehouse:
        for name, statement in parcels_model.statements("bigquery"):
            admin.query_and_wait(statement.replace("TABLE ", "TABLE post."))
            warehouse.execute(f"COPY {name} TO '{folder}/{name}.parquet'")
            with (folder / f"{name}.parquet").open("rb") as rows:
                config = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND")
                admin.load_table_from_file(rows, f"acme.post.{name}", job_config=config).result()
    return address


@pytest.fixture(autouse=True)
def _anonymous(emulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use anonymous credentials: real ones are exchanged for tokens by Google's servers."""
    from google.auth.credentials import AnonymousCredentials

    monkeypatch.setattr("google.auth.default", lambda **_: (AnonymousCredentials(), "acme"))
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", emulator)
    monkeypatch.setenv("CT_WAREHOUSE_URL", URL)


def table(query: str) -> Table:
    return parcels_model.open_query(query).table(BEGIN, END)


def test_the_same_rows_have_the_same_snapshot_as_in_duckdb(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = parcels_model.snapshot_from(f"duckdb://{folder}/parcels.duckdb", monkeypatch, tmp_path)
    assert parcels_model.snapshot_from(URL, monkeypatch, tmp_path).hash == expected.hash
    assert expected.train.rows > 100


def test_the_watermark_counts_the_same_rows_as_in_duckdb(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = parcels_model.count_days(f"duckdb://{folder}/parcels.duckdb", monkeypatch)
    assert parcels_model.count_days(URL, monkeypatch) == expected


def test_rows_are_fetched_page_by_page() -> None:
    pairs = "SELECT a.number, b.sent FROM parcels AS a CROSS JOIN parcels AS b WHERE a.express AND b.late"
    query = f"{pairs} AND b.sent >= $since AND b.sent < $until"
    pages = [page.num_rows for page in parcels_model.open_query(query).read(BEGIN, END)]
    assert len(pages) > 1
    assert max(pages) == PAGE_ROWS


def test_null_times_stay_null() -> None:
    times = f"SELECT CASE WHEN depot = 'Brno' THEN sent END AS seen FROM parcels WHERE {WINDOW}"
    others = table(f"SELECT number FROM parcels WHERE {WINDOW} AND depot <> 'Brno'")
    nulls = sum(page["seen"].null_count for page in parcels_model.open_query(times).read(BEGIN, END))
    assert nulls == others.count().execute() > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "Table acme.post.nothing was not found"),
        ("other.parcels", "Access Denied: Table acme:other"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(name: str, message: str) -> None:
    with pytest.raises(UserError, match=f"rejects the query: .*{message}") as error:
        table(f"SELECT * FROM {name} WHERE $since < $until")
    assert "\n" not in str(error.value)


def error_body(reason: str, message: str) -> str:
    """Return an error in BigQuery's format."""
    return json.dumps({"error": {"message": message, "errors": [{"reason": reason, "message": message}]}})


def test_a_missing_permission_to_run_queries_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = "Access Denied: Project acme: User does not have bigquery.jobs.create permission in project acme."
    with http_stub(lambda _: (403, error_body("accessDenied", denied))) as address:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", address)
        with pytest.raises(UserError, match=f"rejects the query: .*{denied}") as error:
            table(f"SELECT * FROM parcels WHERE {WINDOW}")
    assert "\n" not in str(error.value)


def test_a_request_to_a_busy_service_is_repeated(emulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([503])

    def respond(request: Request) -> tuple[int, str]:
        if status := next(failures, None):
            return status, error_body("backendError", "Visibility check was unavailable. Please retry the request")
        method = "POST" if request.body else "GET"
        response = requests.request(
            method,
            emulator + request.path,
            data=request.body,
            headers={"Content-Type": "application/json"},
            timeout=TIMEOUT,
        )
        return response.status_code, response.text

    with http_stub(respond) as address:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", address)
        assert table(f"SELECT number FROM parcels WHERE {WINDOW}").count().execute() > 100
    assert next(failures, None) is None


def test_missing_credentials_are_an_error_and_start_no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from google.auth import _default as real

    monkeypatch.setattr("google.auth.default", real.default)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # no search for Google's metadata server
    with pytest.raises(UserError, match="cannot be opened: .*credentials were not found") as error:
        sources.open_source(parcels_model.load_parcels_settings())
    assert "\n" not in str(error.value)


def test_an_address_without_a_dataset_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT_WAREHOUSE_URL", "bigquery://acme")
    with pytest.raises(UserError, match="has no dataset: write it as bigquery://project/dataset"):
        sources.open_source(parcels_model.load_parcels_settings())
