"""Snowflake: its own connector sends requests to fakesnow, which translates them for DuckDB.

None of this was ever run against the real service. fakesnow does not describe a query's columns, checks no password and
no role, drops nulls among times, and sends all rows at once; snowflake/server.py adds these, except the role. Not
covered are therefore: Snowflake's arithmetic (it divides exact numbers to a few digits more than they have, so a query
that must return the same everywhere divides doubles), the limits of a role, key pairs and other ways to log in.
"""

from __future__ import annotations

import secrets
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
from ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration(seconds=5)

CHUNK_ROWS = 200
PASSWORD = secrets.token_hex(16)
BEGIN, END = datetime(1900, 1, 1), datetime(2100, 1, 1)
WINDOW = "sent >= $since AND sent < $until"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a folder with the same rows in a DuckDB warehouse."""
    folder = tmp_path_factory.mktemp("parcels")
    parcels_model.load(folder / "parcels.duckdb")
    return folder


@pytest.fixture(scope="module")
def address(env_python: Callable[[str], Path]) -> Iterator[str]:
    """Start the emulator; return its host and port."""
    port = free_port()
    with run_server(
        env_python("tests/continuous_training/snowflake"),
        "tests/continuous_training/snowflake/server.py",
        str(port),
        PASSWORD,
        port=port,
    ):
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def filled_url(address: str, folder: Path) -> str:
    """Fill the emulator's tables; return the URL for a user with read permission only."""
    from snowflake import connector

    host, _, port = address.partition(":")
    account = {"user": "owner", "password": PASSWORD, "account": "acme", "database": "facts", "schema": "post"}
    with (
        duckdb.connect(folder / "parcels.duckdb", read_only=True) as warehouse,
        connector.connect(**account, host=host, port=int(port), protocol="http") as session,
    ):
        for name, statement in parcels_model.statements("snowflake"):
            session.cursor().execute(statement)
            rows = warehouse.execute(f"FROM {name}").fetchall()
            session.cursor().executemany(f"INSERT INTO {name} VALUES ({', '.join(['%s'] * len(rows[0]))})", rows)
    return f"snowflake://reader:{PASSWORD}@acme/facts/post?warehouse=small&host={host}&port={port}&protocol=http"


@pytest.fixture(autouse=True)
def _no_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevent the connector from sending requests to the metadata servers of clouds."""
    monkeypatch.setenv("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")


@pytest.fixture
def url(filled_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the emulator the warehouse; return its URL."""
    monkeypatch.setenv("CT_WAREHOUSE_URL", filled_url)
    return filled_url


def error_of(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the one-line error of a warehouse that cannot be opened."""
    monkeypatch.setenv("CT_WAREHOUSE_URL", url)
    with pytest.raises(UserError, match="cannot be opened: ") as error:
        sources.open_source(parcels_model.load_parcels_settings())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_same_rows_have_the_same_snapshot_as_in_duckdb(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = parcels_model.snapshot_from(f"duckdb://{folder}/parcels.duckdb", monkeypatch, tmp_path)
    assert parcels_model.snapshot_from(url, monkeypatch, tmp_path).hash == expected.hash
    assert expected.train.rows > 100


def test_the_watermark_counts_the_same_rows_as_in_duckdb(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = parcels_model.count_days(f"duckdb://{folder}/parcels.duckdb", monkeypatch)
    assert parcels_model.count_days(url, monkeypatch) == expected


@pytest.mark.usefixtures("url")
def test_rows_are_fetched_in_chunks_and_a_chunk_that_fails_is_fetched_again() -> None:
    source = parcels_model.open_query(f"SELECT number FROM parcels CROSS JOIN depots WHERE {WINDOW}")
    batches = [batch.num_rows for batch in source.read(BEGIN, END)]
    assert sum(batches) == source.table(BEGIN, END).count().execute() > 3 * CHUNK_ROWS
    assert max(batches) == CHUNK_ROWS


@pytest.mark.usefixtures("url")
def test_columns_have_the_names_of_the_query() -> None:
    source = parcels_model.open_query(f'SELECT number, depot AS "From" FROM parcels WHERE {WINDOW}')
    assert source.table(BEGIN, END).columns == ("number", "From")


@pytest.mark.usefixtures("url")
def test_null_times_stay_null() -> None:
    times = parcels_model.open_query(
        f"SELECT CASE WHEN depot = 'Brno' THEN sent END AS seen FROM parcels WHERE {WINDOW}"
    )
    others = parcels_model.open_query(f"SELECT number FROM parcels WHERE {WINDOW} AND depot <> 'Brno'")
    nulls = sum(batch["seen"].null_count for batch in times.read(BEGIN, END))
    assert nulls == others.table(BEGIN, END).count().execute() > 0


@pytest.mark.usefixtures("url")
def test_only_statements_that_read_are_sent(address: str) -> None:
    before = len(requests.get(f"http://{address}/statements", timeout=TIMEOUT).json())
    parcels_model.open_query("SELECT * FROM depots WHERE $since < $until").read(BEGIN, END).read_all()
    statements = requests.get(f"http://{address}/statements", timeout=TIMEOUT).json()[before:]
    assert {statement.split()[0] for statement in statements} == {"SELECT", "DESCRIBE"}


def test_a_wrong_password_is_reported_and_not_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    message = error_of(url.replace(PASSWORD, "hunter2"), monkeypatch)
    assert "reader:" in message
    assert "Incorrect username or password was specified" in message
    assert "hunter2" not in message


def test_an_account_that_does_not_respond_times_out(url: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = address.partition(":")[2]
    message = error_of(url.replace(port, f"{free_port()}&login_timeout=1"), monkeypatch)
    assert "Could not connect to Snowflake" in message
    assert PASSWORD not in message


def test_secrets_of_the_connector_are_not_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "&private_key_file=nowhere.p8&private_key_file_pwd=hunter2"
    assert "hunter2" not in error_of(f"{url}{key}", monkeypatch)


@pytest.mark.usefixtures("url")
def test_a_missing_table_is_named() -> None:
    with pytest.raises(UserError, match="rejects the query: .*NOTHING does not exist"):
        parcels_model.open_query("SELECT * FROM nothing WHERE $since < $until").table(BEGIN, END)
