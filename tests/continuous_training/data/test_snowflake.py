"""Snowflake: its real connector asks fakesnow over HTTP, which answers from DuckDB as it takes Snowflake to answer.

None of this was ever run against the real service. fakesnow cannot tell which columns a query has, looks at no password
and no role, forgets that a time is null, and sends all rows at once; snowflake/server.py makes up for that, but
for the role. So what is not seen here: Snowflake's own arithmetic (it divides exact numbers to a few digits more than
they have, so a query that is to give the same everywhere divides doubles), what a role may not do, and key pairs and
other ways to log in.
"""

from __future__ import annotations

import secrets
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
from server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibis.expr.types import Table

pytestmark = pytest.mark.integration(seconds=5)

PART = 200  # rows
PASSWORD = secrets.token_hex(16)
LONG_AGO, LONG_HENCE = datetime(1900, 1, 1), datetime(2100, 1, 1)
EVER = "$since < $until"
WHENEVER = "flights.time_hour >= $since AND flights.time_hour < $until"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with the same flights in a DuckDB warehouse."""
    folder = tmp_path_factory.mktemp("flights")
    flights.load(folder / "flights.duckdb")
    return folder


@pytest.fixture(scope="module")
def there(python_of: Callable[[str], Path]) -> Iterator[str]:
    """Start what stands for Snowflake."""
    port = free_port()
    with served(
        python_of("tests/continuous_training/snowflake"),
        "tests/continuous_training/snowflake/server.py",
        str(port),
        PASSWORD,
        port=port,
    ):
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def url(there: str, home: Path) -> str:
    """Fill it with flights; as a rule, whoever fills a warehouse may do more than who reads it."""
    from snowflake import connector

    host, _, port = there.partition(":")
    owner = {"user": "owner", "password": PASSWORD, "account": "acme", "database": "facts", "schema": "air"}
    with (
        duckdb.connect(home / "flights.duckdb", read_only=True) as source,
        connector.connect(**owner, host=host, port=int(port), protocol="http") as session,
    ):
        for name, made in flights.statements(home / "flights.duckdb", "snowflake"):
            session.cursor().execute(made)
            rows = source.execute(f"FROM {name}").fetchall()
            session.cursor().executemany(f"INSERT INTO {name} VALUES ({', '.join(['%s'] * len(rows[0]))})", rows)
    return f"snowflake://reader:{PASSWORD}@acme/facts/air?warehouse=small&host={host}&port={port}&protocol=http"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the connector from looking for a cloud around it."""
    monkeypatch.setenv("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")


@pytest.fixture
def ask(url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Table]:
    """Give what asks the warehouse."""
    monkeypatch.setenv("CT_WAREHOUSE_URL", url)
    given = flights.two_days()
    return lambda query: warehouse.rows(warehouse.connect(given), query, LONG_AGO, LONG_HENCE)


def test_the_same_flights_are_the_same_snapshot_as_from_duckdb(
    url: str, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = flights.snapshot_from(f"duckdb://{home}/flights.duckdb", monkeypatch, tmp_path)
    assert flights.snapshot_from(url, monkeypatch, tmp_path).hash == here.hash
    assert here.train.rows > 100


def test_the_watermark_counts_the_same_rows_as_in_duckdb(url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = flights.counted_at(f"duckdb://{home}/flights.duckdb", monkeypatch)
    assert flights.counted_at(url, monkeypatch) == here


def test_rows_come_in_parts_and_a_part_that_fails_comes_again(ask: Callable[[str], Table]) -> None:
    query = f"SELECT flights.flight FROM flights CROSS JOIN planes WHERE seats > 300 AND {WHENEVER}"
    batches = [batch.num_rows for batch in warehouse.stream(ask(query))]
    assert sum(batches) == ask(query).count().execute() > 3 * PART
    assert max(batches) == PART


def test_columns_are_called_what_the_query_calls_them(ask: Callable[[str], Table]) -> None:
    assert ask(f'SELECT flight, origin AS "From" FROM flights WHERE {WHENEVER}').columns == ("flight", "From")


def test_a_time_that_is_not_known_stays_unknown(ask: Callable[[str], Table]) -> None:
    query = f"SELECT CASE WHEN origin = 'JFK' THEN time_hour END AS seen FROM flights WHERE {WHENEVER}"
    unknown = sum(batch["seen"].null_count for batch in warehouse.stream(ask(query)))
    assert unknown == ask(f"SELECT flight FROM flights WHERE {WHENEVER} AND origin <> 'JFK'").count().execute()


def test_whoever_may_only_read_is_never_made_to_write(there: str, ask: Callable[[str], Table]) -> None:
    before = len(requests.get(f"http://{there}/statements", timeout=10).json())
    list(warehouse.stream(ask(f"SELECT * FROM planes WHERE {EVER}")))
    asked = requests.get(f"http://{there}/statements", timeout=10).json()[before:]
    assert {statement.split()[0] for statement in asked} == {"SELECT", "DESCRIBE"}


def test_a_wrong_password_is_told_and_not_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT_WAREHOUSE_URL", url.replace(PASSWORD, "hunter2"))
    with pytest.raises(UserError, match="reader:.*Incorrect username or password was specified") as raised:
        warehouse.connect(flights.two_days())
    assert "hunter2" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_account_where_nobody_answers_is_given_up(url: str, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = there.partition(":")[2]
    monkeypatch.setenv("CT_WAREHOUSE_URL", url.replace(port, f"{free_port()}&login_timeout=1"))
    with pytest.raises(UserError, match="cannot be opened: .*Could not connect to Snowflake") as raised:
        warehouse.connect(flights.two_days())
    assert PASSWORD not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_secret_of_the_connector_is_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT_WAREHOUSE_URL", f"{url}&private_key_file=nowhere.p8&private_key_file_pwd=hunter2")
    with pytest.raises(UserError, match="cannot be opened") as raised:
        warehouse.connect(flights.two_days())
    assert "hunter2" not in str(raised.value)


def test_a_table_that_is_not_there_is_named(ask: Callable[[str], Table]) -> None:
    with pytest.raises(UserError, match="refuses the query: .*NOTHING does not exist"):
        ask(f"SELECT * FROM nothing WHERE {EVER}")
