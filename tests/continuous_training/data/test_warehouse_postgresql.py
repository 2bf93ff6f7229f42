"""A PostgreSQL server as the warehouse, with a URL of PostgreSQL or Redshift, returns the same rows as DuckDB."""

from __future__ import annotations

import math
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString

import duckdb
import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conftest import TIMEOUT
from continuous_training.data import sources
from continuous_training.data.backends import postgresql
from continuous_training.errors import UserError
from continuous_training.monitoring import warehouse_rows
from continuous_training.monitoring.window import Window
from continuous_training.new_model.origin import Address, open_origin
from continuous_training.new_model.profile import profile
from continuous_training.stages import snapshot
from pipeline import Pipeline
from ports import free_port
from postgresql import Postgresql, needs_postgresql
from tcp_relay import relay
from toy import TRAINING, change, events, store

pytestmark = needs_postgresql

SELECT = "SELECT id, seen, shade, x, y, late FROM events WHERE seen >= $since AND seen < $until"
BOTH_SCHEMES = pytest.mark.parametrize("scheme", ["postgresql", "redshift"])
BEGIN, END = datetime(2020, 1, 1), datetime(2020, 2, 1)


class Warehouse:
    """A server with the events; tests change a copy in the schema `scratch`."""

    def __init__(self, server: Postgresql) -> None:
        self.server = server
        self.admin = psycopg.connect(server.url, autocommit=True)
        self.execute("CREATE ROLE reader LOGIN PASSWORD 'hunter2' NOINHERIT")
        self.execute("CREATE TABLE events (id bigint, seen timestamp, shade text, x float8, y float8, late boolean)")
        self.execute("GRANT SELECT ON events TO reader")
        self.copy("events", events())

    def execute(self, statement: LiteralString) -> list[Any]:
        cursor = self.admin.execute(statement)
        return cursor.fetchall() if cursor.description else []

    def copy(self, table: str, frame: pd.DataFrame) -> None:
        with self.admin.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT csv)") as copy:  # type: ignore[arg-type]
            copy.write(frame.to_csv(index=False, header=False))

    def url(self, scheme: str = "postgresql", port: int | None = None, path: str = "") -> str:
        return f"{scheme}://reader:hunter2@127.0.0.1:{port or self.port}/postgres{path}"

    @property
    def port(self) -> int:
        return self.admin.info.port


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    with Postgresql() as process, closing((warehouse := Warehouse(process)).admin):
        yield warehouse


@pytest.fixture
def scratch(warehouse: Warehouse) -> Iterator[Warehouse]:
    """Return the warehouse with a copy of the events in the schema `scratch`."""
    warehouse.execute(
        "CREATE SCHEMA scratch; GRANT USAGE ON SCHEMA scratch TO reader; SET search_path TO scratch, public"
    )
    warehouse.execute("CREATE TABLE scratch.events AS TABLE public.events; GRANT SELECT ON scratch.events TO reader")
    yield warehouse
    warehouse.execute("DROP SCHEMA scratch CASCADE; RESET search_path")


@pytest.fixture
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "RETRY_SECONDS", (0, 0))


def snapshot_hash(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    """Return the hash of a warehouse's rows for the run of 1 March."""
    monkeypatch.setenv("CT_WAREHOUSE_URL", url)
    return Pipeline(monkeypatch).take_snapshot().hash


def open_source(monkeypatch: pytest.MonkeyPatch, url: str) -> Any:
    monkeypatch.setenv("CT_WAREHOUSE_URL", url)
    return sources.open_source(Pipeline(monkeypatch).settings)


def error_of(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    """Return the error of a snapshot: one line without the password; nothing is stored."""
    with pytest.raises(UserError) as error:
        snapshot_hash(monkeypatch, url)
    message = str(error.value)
    assert "\n" not in message
    assert "hunter2" not in message
    assert [*Path(".ct/snapshots").iterdir()] == []
    return message


@contextmanager
def read_window(monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    """Read the monitor's window from the warehouse."""
    run = Pipeline(monkeypatch)
    with sources.open_source(run.settings) as source:
        yield warehouse_rows.read_window(source, run.settings, datetime(2020, 3, 1))


class TestNewModel:
    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ("scratch.secret", "permission denied for table secret"),
            ("scratch.nothing", 'relation "scratch.nothing" does not exist'),
            ("scratch.a\"b'; DROP TABLE events; --\n", 'relation "scratch.a'),
        ],
    )
    def test_a_table_that_may_not_be_read_or_does_not_exist_is_refused_in_one_line(
        self, monkeypatch: pytest.MonkeyPatch, scratch: Warehouse, table: str, message: str
    ) -> None:
        scratch.execute("CREATE TABLE scratch.secret AS TABLE public.events")
        monkeypatch.setenv("CT_WAREHOUSE_URL", scratch.url())
        with pytest.raises(UserError, match=message) as error, open_origin(Address(table=table)) as origin:
            profile(origin)
        assert "\n" not in str(error.value)
        assert "hunter2" not in str(error.value)
        assert scratch.execute("SELECT count(*) FROM scratch.events") == [(len(events()),)]


@pytest.mark.usefixtures("workspace")
class TestSnapshot:
    @BOTH_SCHEMES
    def test_the_same_rows_have_the_same_snapshot_as_in_duckdb(
        self, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse, scheme: str
    ) -> None:
        expected = Pipeline(monkeypatch).take_snapshot().hash
        assert snapshot_hash(monkeypatch, warehouse.url(scheme)) == expected

    def test_rows_are_read_from_the_schema_of_the_url(
        self, monkeypatch: pytest.MonkeyPatch, scratch: Warehouse
    ) -> None:
        scratch.execute("UPDATE scratch.events SET x = x + 1")
        assert snapshot_hash(monkeypatch, scratch.url(path="/scratch")) != snapshot_hash(monkeypatch, scratch.url())

    def test_rows_are_read_in_read_only_transactions(
        self, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse
    ) -> None:
        """A hot standby allows no others."""
        read_only = "?options=-c%20default_transaction_read_only%3Don"
        assert snapshot_hash(monkeypatch, warehouse.url(path=read_only)) == snapshot_hash(monkeypatch, warehouse.url())

    @pytest.mark.parametrize("kind", ["timestamptz", "text"])
    def test_windows_do_not_depend_on_the_time_zones_of_rows_and_sessions(
        self, monkeypatch: pytest.MonkeyPatch, scratch: Warehouse, kind: LiteralString
    ) -> None:
        expected = Pipeline(monkeypatch).take_snapshot().hash
        zones = [timezone(timedelta(hours=hours)) for hours in (0, 14, -11)]
        utc = events()["seen"].dt.tz_localize("UTC")
        rows = events().assign(seen=[seen.tz_convert(zones[n % 3]).isoformat() for n, seen in enumerate(utc)])
        store(rows)
        with duckdb.connect(".ct/warehouse.duckdb") as connection:
            connection.execute(f"ALTER TABLE events ALTER seen TYPE {kind}")
        scratch.execute("TRUNCATE scratch.events")
        scratch.execute("ALTER TABLE scratch.events ALTER seen TYPE " + kind)
        scratch.copy("scratch.events", rows)
        time = "CAST(seen AS TIMESTAMPTZ)"
        change(SELECT, SELECT.replace(" seen,", f" {time} AS seen,").replace("seen ", f"{time} "))
        scratch.execute("ALTER ROLE reader SET timezone TO 'Pacific/Kiritimati'")
        try:
            hashes = {
                Pipeline(monkeypatch).take_snapshot().hash,
                snapshot_hash(monkeypatch, scratch.url(path="/scratch")),
            }
            assert hashes == {expected}
        finally:
            scratch.execute("ALTER ROLE reader RESET timezone")


ZONES = st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-14 * 60, 14 * 60))
PAST, FUTURE = datetime(1800, 1, 1), datetime(2200, 1, 1)
TYPES: dict[str, tuple[str, str, st.SearchStrategy[Any]]] = {  # in the warehouse and in training.yaml; the values
    "big": ("bigint", "integer", st.integers(-(2**63), 2**63 - 1)),
    "exact": ("numeric(18, 3)", "number", st.decimals(-(10**14), 10**14, places=3, allow_nan=False)),
    "loose": ("numeric", "number", st.decimals(-(10**14), 10**14, places=5, allow_nan=False)),
    "double": ("double precision", "number", st.floats()),
    "single": ("real", "number", st.floats(width=32)),
    "moment": ("timestamptz", "timestamp", st.datetimes(PAST, FUTURE, timezones=ZONES)),
    "hour": ("timestamp", "timestamp", st.datetimes(PAST, FUTURE)),
    "day": ("date", "timestamp", st.dates(PAST.date(), FUTURE.date())),
    "text": ("text", "category", st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5)),
    "ok": ("boolean", "boolean", st.booleans()),
}
TRAINING_OF_ALL_TYPES = (
    TRAINING.partition("  query:")[0]
    + f"  query: SELECT id, seen, late, {', '.join(TYPES)} FROM all_types WHERE seen >= $since AND seen < $until\n"
    + "  columns:\n    id: {type: integer}\n    seen: {type: timestamp, feature: false}\n"
    + "    late: {type: boolean, feature: false}\n"
    + "".join(f"    {name}: {{type: {declared}, feature: false}}\n" for name, (_, declared, _) in TYPES.items())
    + "model: {task: classification}\ncompare: {metric: roc_auc, first: {roc_auc: 0.6}}\n"
)


EARLY, LATE = PAST.replace(tzinfo=UTC), FUTURE.replace(tzinfo=UTC)
EDGE_CASES = [
    (2**63 - 1, Decimal("-0.001"), Decimal("0.1"), -0.0, math.inf, EARLY, PAST, PAST.date(), "∅\x1f\\\n\"', é", True),
    (2**53 + 1, Decimal(10**14), Decimal("0.00001"), math.nan, 0.1, LATE, FUTURE, FUTURE.date(), "", False),
]


@pytest.mark.usefixtures("workspace")
@given(rows=st.lists(st.tuples(*(st.none() | values for _, _, values in TYPES.values())), min_size=2, max_size=30))
@example([*EDGE_CASES, (None,) * len(TYPES)])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_values_of_all_types_are_the_same_from_all_warehouses(
    monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse, tmp_path: Path, rows: list[tuple[Any, ...]]
) -> None:
    Path("src/toy/training.yaml").write_text(TRAINING_OF_ALL_TYPES)
    days = [datetime(2020, 1, 10), datetime(2020, 2, 20)]  # of a training row and of a fresh row
    complete = [(n, days[n % 2], True, *row) for n, row in enumerate(rows)]
    columns = ", ".join(f"{name} {kind}" for name, (kind, _, _) in TYPES.items())
    create = f"CREATE TABLE all_types (id int, seen timestamp, late boolean, {columns})"
    insert = f"INSERT INTO all_types VALUES ({', '.join('?' * len(complete[0]))})"
    path = tmp_path / "types.duckdb"
    path.unlink(missing_ok=True)
    with duckdb.connect(path) as connection:
        connection.execute(create.replace("numeric,", "numeric(25, 5),"))  # DuckDB's decimals have a width
        connection.executemany(insert, complete)
    warehouse.admin.execute("DROP TABLE IF EXISTS all_types; " + create + "; GRANT SELECT ON all_types TO reader")  # type: ignore[arg-type]
    with warehouse.admin.cursor() as cursor:
        cursor.executemany(insert.replace("?", "%s"), complete)  # type: ignore[arg-type]
    urls = [f"duckdb://{path}", warehouse.url(), warehouse.url("redshift")]
    assert len({snapshot_hash(monkeypatch, url) for url in urls}) == 1


@pytest.mark.usefixtures("workspace")
class TestTypesOfPostgresql:
    def test_enums_uuids_and_json_are_read_as_strings_and_decimals_as_doubles(
        self, monkeypatch: pytest.MonkeyPatch, scratch: Warehouse
    ) -> None:
        scratch.execute("CREATE TYPE scratch.mood AS ENUM ('calm', 'wild')")
        scratch.execute(
            "CREATE VIEW scratch.odd AS SELECT seen, 'wild'::scratch.mood AS mood, 1.1::numeric AS loose, "
            "'ab'::char(5) AS five, '00000000-0000-0000-0000-000000000001'::uuid AS one, '{}'::json AS json "
            "FROM scratch.events LIMIT 1"
        )
        scratch.execute("GRANT SELECT ON scratch.odd TO reader")
        change(SELECT, "SELECT * FROM odd WHERE seen >= $since AND seen < $until")
        for scheme in ("postgresql", "redshift"):
            with open_source(monkeypatch, scratch.url(scheme, path="/scratch")) as source:
                [row] = source.read(BEGIN, END).read_all().to_pylist()
            one = "00000000-0000-0000-0000-000000000001"
            assert row == {"seen": BEGIN, "mood": "wild", "loose": 1.1, "five": "ab", "one": one, "json": "{}"}


@pytest.mark.usefixtures("workspace")
class TestMemory:
    @pytest.mark.parametrize("scheme", ["duckdb", "postgresql", "redshift"])
    def test_the_first_rows_of_a_huge_result_arrive_before_the_last_are_computed(
        self, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse, scheme: str
    ) -> None:
        """The whole result does not fit into memory."""
        tables = ", ".join(f"events AS e{n}" for n in range(5))
        change(SELECT, f"SELECT e0.* FROM {tables} WHERE e0.seen >= $since AND e0.seen < $until")
        url = "duckdb://.ct/warehouse.duckdb" if scheme == "duckdb" else warehouse.url(scheme)
        with open_source(monkeypatch, url) as source:
            reader = source.read(BEGIN, END)
            assert reader.read_next_batch().num_rows > 0
            del reader


@pytest.mark.usefixtures("workspace", "_no_pauses")
class TestWrongUrl:
    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("127.0.0.1", "127.0.0.2", "Connection refused"),
            ("hunter2", "hunter2x", 'password authentication failed for user "reader"'),
            ("hunter2", "hunter2%20", 'password authentication failed for user "reader"'),
            ("hunter2", "hunter2@/ x", "must be written as %20, %2F, %40"),
            ("/postgres", "/nowhere", 'database "nowhere" does not exist'),
            ("/postgres", "/postgres?pasword=hunter2", 'invalid URI query parameter: "pasword"'),
            ("reader:hunter2@", "?user=reader&password=hunter2", "cannot be opened"),
        ],
    )
    @BOTH_SCHEMES
    def test_the_error_of_a_wrong_url_has_no_password(
        self, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse, scheme: str, old: str, new: str, message: str
    ) -> None:
        assert message in error_of(monkeypatch, warehouse.url(scheme).replace(old, new))

    def test_a_wrong_port_is_a_refused_connection(self, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse) -> None:
        assert "Connection refused" in error_of(monkeypatch, warehouse.url(port=free_port()))

    def test_a_server_that_does_not_respond_times_out(
        self, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse
    ) -> None:
        monkeypatch.setitem(postgresql.TIMEOUTS, "connect_timeout", "2")  # libpq's minimum
        with socket.create_server(("127.0.0.1", 0)) as silent:
            assert "timeout expired" in error_of(monkeypatch, warehouse.url(port=silent.getsockname()[1]))

    @pytest.mark.parametrize(
        ("scheme", "module", "extra"),
        [
            ("postgres", "psycopg", "postgres"),
            ("postgresql", "psycopg", "postgres"),
            ("redshift", "psycopg", "redshift"),
            ("snowflake", "snowflake.connector", "snowflake"),
            ("bigquery", "google.cloud.bigquery", "bigquery"),
        ],
    )
    def test_the_error_of_a_missing_driver_has_the_command_that_installs_it(
        self, scheme: str, module: str, extra: str
    ) -> None:
        """In a separate process, because Ibis' backends cannot be imported twice in one."""
        url = f"{scheme}://reader:hunter2@warehouse.example/facts"
        code = (
            f"import sys; sys.modules[{module!r}] = None\n"
            "from continuous_training.data import warehouse\n"
            "from continuous_training.errors import UserError\n"
            f"try: warehouse.connect_to({url!r})\n"
            "except UserError as error: print(error)"
        )
        process = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT
        )
        assert process.stdout.endswith(f"is not installed: pip install '.[{extra}]'\n"), process.stdout
        assert "hunter2" not in process.stdout


@pytest.mark.usefixtures("workspace", "_no_pauses")
class TestPermissions:
    def test_a_forbidden_table_is_named(self, monkeypatch: pytest.MonkeyPatch, scratch: Warehouse) -> None:
        scratch.execute("REVOKE SELECT ON scratch.events FROM reader")
        assert "permission denied for table events" in error_of(monkeypatch, scratch.url(path="/scratch"))

    def test_a_missing_table_is_named(self, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse) -> None:
        change("FROM events", "FROM happenings")
        assert 'relation "happenings" does not exist' in error_of(monkeypatch, warehouse.url())


@pytest.mark.usefixtures("workspace", "_no_pauses")
class TestLostConnection:
    @BOTH_SCHEMES
    def test_after_a_lost_connection_all_rows_are_fetched_again(
        self, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse, caplog: pytest.LogCaptureFixture, scheme: str
    ) -> None:
        with relay(warehouse.port, lambda number, received: number < 3 and received > 50_000) as port:
            assert snapshot_hash(monkeypatch, warehouse.url(scheme, port)) == snapshot_hash(
                monkeypatch, warehouse.url()
            )
        assert len([message for message in caplog.messages if "all rows are fetched again" in message]) == 2

    def test_a_connection_that_is_lost_repeatedly_ends_the_run_and_stores_nothing(
        self, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse
    ) -> None:
        with relay(warehouse.port, lambda _, received: received > 50_000) as port:
            assert "failed during the query" in error_of(monkeypatch, warehouse.url(port=port))

    def test_after_an_administrator_terminates_the_connection_all_rows_are_fetched_again(
        self, monkeypatch: pytest.MonkeyPatch, scratch: Warehouse, caplog: pytest.LogCaptureFixture
    ) -> None:
        scratch.execute("UPDATE scratch.events SET shade = repeat(shade, 3000)")  # more than the sockets' buffers hold

        def terminate(number: int, received: int) -> bool:
            if number == 1 and received > 50_000:
                scratch.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'")
            return False

        with relay(scratch.port, terminate) as port:
            assert snapshot_hash(monkeypatch, scratch.url(port=port, path="/scratch")) == snapshot_hash(
                monkeypatch, scratch.url(path="/scratch")
            )
        assert "all rows are fetched again" in caplog.text

    def test_a_server_that_stays_down_ends_the_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Postgresql() as process, closing((warehouse := Warehouse(process)).admin):
            warehouse.execute("UPDATE events SET shade = repeat(shade, 3000)")
            stop = threading.Thread(target=process.__exit__)

            def stop_once(_: int, received: int) -> bool:
                if received > 50_000 and not stop.ident:
                    stop.start()
                return False

            with relay(warehouse.port, stop_once) as port:
                assert "cannot be opened" in error_of(monkeypatch, warehouse.url(port=port))
            stop.join()


@pytest.mark.usefixtures("workspace", "_no_pauses")
class TestTimeouts:
    def test_waiting_for_a_lock_times_out(self, monkeypatch: pytest.MonkeyPatch, scratch: Warehouse) -> None:
        with psycopg.connect(scratch.server.url) as locker:
            locker.execute("LOCK TABLE scratch.events")
            timeout = "/scratch?options=-c%20statement_timeout%3D100"
            assert "due to statement timeout" in error_of(monkeypatch, scratch.url(path=timeout))

    @BOTH_SCHEMES
    def test_statements_and_connections_have_timeouts(
        self, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse, scheme: str
    ) -> None:
        connection = open_source(monkeypatch, warehouse.url(scheme)).backend.con
        assert connection.execute("SHOW statement_timeout").fetchone() == ("2h",)
        assert connection.info.get_parameters().items() >= postgresql.TIMEOUTS.items()


@pytest.mark.usefixtures("workspace", "_no_pauses")
class TestChangedTable:
    def test_a_dropped_column_ends_the_snapshot(self, monkeypatch: pytest.MonkeyPatch, scratch: Warehouse) -> None:
        scratch.execute("ALTER TABLE scratch.events DROP COLUMN y")
        assert 'column "y" does not exist' in error_of(monkeypatch, scratch.url(path="/scratch"))

    def test_a_changed_type_fails_the_data_check(self, monkeypatch: pytest.MonkeyPatch, scratch: Warehouse) -> None:
        scratch.execute("ALTER TABLE scratch.events ALTER y TYPE text")
        monkeypatch.setenv("CT_WAREHOUSE_URL", scratch.url(path="/scratch"))
        failed = {check.column: check.message for check in Pipeline(monkeypatch).check_data() if not check.passed}
        assert failed == {"y": "is of type string, should be number"}


@pytest.mark.usefixtures("workspace", "_no_pauses")
class TestTimes:
    def test_null_times_fail_the_data_check(self, monkeypatch: pytest.MonkeyPatch, scratch: Warehouse) -> None:
        change("AND seen < $until", "AND seen < $until OR seen IS NULL")
        scratch.execute("UPDATE scratch.events SET seen = NULL WHERE id % 100 = 0")
        monkeypatch.setenv("CT_WAREHOUSE_URL", scratch.url(path="/scratch"))
        [failed] = [check for check in Pipeline(monkeypatch).check_data() if not check.passed]
        assert failed.column == "seen"
        assert failed.message.startswith("is null in 0.0% of the training rows and")

    def test_null_times_in_all_fresh_rows_end_the_snapshot(
        self, monkeypatch: pytest.MonkeyPatch, scratch: Warehouse
    ) -> None:
        change("AND seen < $until", "AND seen < $until OR seen IS NULL")
        scratch.execute("UPDATE scratch.events SET seen = NULL WHERE seen >= '2020-02-01'")
        assert "'seen' is null in all" in error_of(monkeypatch, scratch.url(path="/scratch"))

    def test_times_outside_the_windows_are_reported(self, monkeypatch: pytest.MonkeyPatch, scratch: Warehouse) -> None:
        scratch.execute("UPDATE scratch.events SET seen = seen - interval '10 years'")
        message = error_of(monkeypatch, scratch.url(path="/scratch"))
        assert "there are no rows from" in message
        assert "the data runs from 2010-01-01" in message


@pytest.mark.usefixtures("workspace")
class TestRedshift:
    """The statements in the server's log use nothing that Redshift is known not to support."""

    UNSUPPORTED = (
        r"pg_|\$\d|\b(CREATE|DECLARE|FETCH|COPY|SAVEPOINT|PREPARE|DEALLOCATE|LATERAL|FILTER|ARRAY|UNNEST)\b|::"
    )

    def test_no_statement_is_sent_that_redshift_does_not_support(
        self, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse
    ) -> None:
        warehouse.execute("ALTER ROLE reader SET log_statement TO 'all'")
        before = warehouse.server.log.stat().st_size
        try:
            snapshot_hash(monkeypatch, warehouse.url("redshift"))
        finally:
            warehouse.execute("ALTER ROLE reader RESET log_statement")
        log = warehouse.server.log.read_text()[before:]
        statements = re.findall(r"LOG:  (?:statement|execute [^:]+): (.*)", log)
        statements = [statement for statement in statements if not statement.startswith("ALTER ROLE")]
        assert [statement for statement in statements if re.search(self.UNSUPPORTED, statement, re.IGNORECASE)] == []
        assert {statement.partition(" ")[0] for statement in statements} == {"SET", "SELECT"}

    @pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
    def test_rows_are_read_in_utf_8_with_any_client_encoding(
        self, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse, encoding: str
    ) -> None:
        """Psycopg does not support Redshift's name of UTF-8."""
        monkeypatch.setenv("PGCLIENTENCODING", encoding)
        backend = open_source(monkeypatch, warehouse.url("redshift")).backend
        assert backend.con.execute("SELECT 'Ærø'").fetchone() == ("Ærø",)

    @BOTH_SCHEMES
    def test_the_monitor_reads_the_newest_rows(
        self, monkeypatch: pytest.MonkeyPatch, scratch: Warehouse, scheme: str
    ) -> None:
        """On Redshift another hash function orders a sample; the test defines it."""
        scratch.execute("CREATE FUNCTION public.fnv_hash(text) RETURNS bigint RETURN hashtextextended($1, 0)")
        try:
            monkeypatch.setenv("CT_WAREHOUSE_URL", scratch.url(scheme))
            with read_window(monkeypatch) as window:
                counts = window.count_rows({"red": window.table.shade == "red", "known": window.table.y.notnull()})
                assert window.sample(10).equals(window.sample(10))
            monkeypatch.delenv("CT_WAREHOUSE_URL")
            with read_window(monkeypatch) as expected:
                conditions = {"red": expected.table.shade == "red", "known": expected.table.y.notnull()}
                assert counts == expected.count_rows(conditions)
        finally:
            scratch.execute("DROP FUNCTION public.fnv_hash(text)")
