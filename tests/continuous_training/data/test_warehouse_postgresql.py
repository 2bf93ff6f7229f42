"""PostgreSQL for a warehouse, a real server, under its own address and under Redshift's: the same rows, and no half."""

from __future__ import annotations

import math
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
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

from continuous_training.data import warehouse
from continuous_training.data.backends import postgresql
from continuous_training.errors import UserError
from continuous_training.monitoring import newest
from continuous_training.stages import snapshot
from pipeline import Pipeline
from postgresql import Postgresql, needs_postgresql
from relay import relay
from server import free_port
from toy import TRAINING, change, events, store

pytestmark = needs_postgresql

SELECT = "SELECT id, seen, shade, x, y, late FROM events WHERE seen >= $since AND seen < $until"
BOTH = pytest.mark.parametrize("scheme", ["postgresql", "redshift"])
BEGIN, END = datetime(2020, 1, 1), datetime(2020, 2, 1)


class Warehouse:
    """A server with the events in it; what a test changes, it changes in a schema of its own."""

    def __init__(self, server: Postgresql) -> None:
        self.server = server
        self.admin = psycopg.connect(server.url, autocommit=True)
        self.do("CREATE ROLE reader LOGIN PASSWORD 'hunter2' NOINHERIT")
        self.do("CREATE TABLE events (id bigint, seen timestamp, shade text, x float8, y float8, late boolean)")
        self.do("GRANT SELECT ON events TO reader")
        self.copy("events", events())

    def do(self, statement: LiteralString) -> list[Any]:
        cursor = self.admin.execute(statement)
        return cursor.fetchall() if cursor.description else []

    def copy(self, table: str, frame: pd.DataFrame) -> None:
        with self.admin.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT csv)") as copy:  # type: ignore[arg-type]
            copy.write(frame.to_csv(index=False, header=False))

    def url(self, scheme: str = "postgresql", port: int | None = None, after: str = "") -> str:
        return f"{scheme}://reader:hunter2@127.0.0.1:{port or self.port}/postgres{after}"

    @property
    def port(self) -> int:
        return self.admin.info.port


@pytest.fixture(scope="module")
def server() -> Iterator[Warehouse]:
    with Postgresql() as up, closing((made := Warehouse(up)).admin):
        yield made


@pytest.fixture
def own(server: Warehouse) -> Iterator[Warehouse]:
    """Let a test have the server with events of its own."""
    server.do("CREATE SCHEMA own; GRANT USAGE ON SCHEMA own TO reader; SET search_path TO own, public")
    server.do("CREATE TABLE own.events AS TABLE public.events; GRANT SELECT ON own.events TO reader")
    yield server
    server.do("DROP SCHEMA own CASCADE; RESET search_path")


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PAUSES", (0, 0))


def taken(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    """Return the hash of the rows that a warehouse gives for the run of 1 March."""
    monkeypatch.setenv("CT_WAREHOUSE_URL", url)
    return Pipeline(monkeypatch).snapshot().hash


def opened(monkeypatch: pytest.MonkeyPatch, url: str) -> Any:
    monkeypatch.setenv("CT_WAREHOUSE_URL", url)
    return warehouse.connect(Pipeline(monkeypatch).given)


def problem(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    """Return what a person is told when the snapshot fails: one line, without the password, and nothing is kept."""
    with pytest.raises(UserError) as found:
        taken(monkeypatch, url)
    message = str(found.value)
    assert "\n" not in message
    assert "hunter2" not in message
    assert [*Path(".ct/snapshots").iterdir()] == []
    return message


@pytest.mark.usefixtures("workspace")
class TestTheSameRows:
    @BOTH
    def test_are_the_same_snapshot_as_from_duckdb(
        self, monkeypatch: pytest.MonkeyPatch, server: Warehouse, scheme: str
    ) -> None:
        here = Pipeline(monkeypatch).snapshot().hash
        assert taken(monkeypatch, server.url(scheme)) == here

    def test_come_from_a_schema_that_the_address_names(self, monkeypatch: pytest.MonkeyPatch, own: Warehouse) -> None:
        own.do("UPDATE own.events SET x = x + 1")
        assert taken(monkeypatch, own.url(after="/own")) != taken(monkeypatch, own.url())

    def test_come_without_a_right_to_make_anything(self, monkeypatch: pytest.MonkeyPatch, server: Warehouse) -> None:
        """As on a hot standby, where no session can."""
        read_only = "?options=-c%20default_transaction_read_only%3Don"
        assert taken(monkeypatch, server.url(after=read_only)) == taken(monkeypatch, server.url())

    @pytest.mark.parametrize("kind", ["timestamptz", "text"])
    def test_lie_in_the_same_windows_whatever_zones_their_times_and_the_session_have(
        self, monkeypatch: pytest.MonkeyPatch, own: Warehouse, kind: LiteralString
    ) -> None:
        here = Pipeline(monkeypatch).snapshot().hash
        zones = [timezone(timedelta(hours=hours)) for hours in (0, 14, -11)]
        utc = events()["seen"].dt.tz_localize("UTC")
        rows = events().assign(seen=[seen.tz_convert(zones[n % 3]).isoformat() for n, seen in enumerate(utc)])
        store(rows)
        with duckdb.connect(".ct/warehouse.duckdb") as connection:
            connection.execute(f"ALTER TABLE events ALTER seen TYPE {kind}")
        own.do("TRUNCATE own.events")
        own.do("ALTER TABLE own.events ALTER seen TYPE " + kind)
        own.copy("own.events", rows)
        moment = "CAST(seen AS TIMESTAMPTZ)"
        change(SELECT, SELECT.replace(" seen,", f" {moment} AS seen,").replace("seen ", f"{moment} "))
        own.do("ALTER ROLE reader SET timezone TO 'Pacific/Kiritimati'")
        try:
            assert {Pipeline(monkeypatch).snapshot().hash, taken(monkeypatch, own.url(after="/own"))} == {here}
        finally:
            own.do("ALTER ROLE reader RESET timezone")


ZONES = st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-14 * 60, 14 * 60))
PAST, FUTURE = datetime(1800, 1, 1), datetime(2200, 1, 1)
KINDS: dict[str, tuple[str, str, st.SearchStrategy[Any]]] = {  # in the warehouse, in training.yaml, the values
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
OF_KINDS = (
    TRAINING.partition("  query:")[0]
    + f"  query: SELECT id, seen, late, {', '.join(KINDS)} FROM kinds WHERE seen >= $since AND seen < $until\n"
    + "  columns:\n    id: {type: integer}\n    seen: {type: timestamp, feature: false}\n"
    + "    late: {type: boolean, feature: false}\n"
    + "".join(f"    {name}: {{type: {declared}, feature: false}}\n" for name, (_, declared, _) in KINDS.items())
    + "model: {task: classification}\ncompare: {metric: roc_auc, first: {roc_auc: 0.6}}\n"
)


EARLY, LATE = PAST.replace(tzinfo=UTC), FUTURE.replace(tzinfo=UTC)
ODD = [
    (2**63 - 1, Decimal("-0.001"), Decimal("0.1"), -0.0, math.inf, EARLY, PAST, PAST.date(), "∅\x1f\\\n\"', é", True),
    (2**53 + 1, Decimal(10**14), Decimal("0.00001"), math.nan, 0.1, LATE, FUTURE, FUTURE.date(), "", False),
]


@pytest.mark.usefixtures("workspace")
@given(rows=st.lists(st.tuples(*(st.none() | values for _, _, values in KINDS.values())), min_size=2, max_size=30))
@example([*ODD, (None,) * len(KINDS)])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_kind_of_value_is_the_same_from_every_warehouse(
    monkeypatch: pytest.MonkeyPatch, server: Warehouse, tmp_path: Path, rows: list[tuple[Any, ...]]
) -> None:
    Path("src/toy/training.yaml").write_text(OF_KINDS)
    days = [datetime(2020, 1, 10), datetime(2020, 2, 20)]  # to train on, and to judge by
    whole = [(n, days[n % 2], True, *row) for n, row in enumerate(rows)]
    columns = ", ".join(f"{name} {kind}" for name, (kind, _, _) in KINDS.items())
    made = f"CREATE TABLE kinds (id int, seen timestamp, late boolean, {columns})"
    filled = f"INSERT INTO kinds VALUES ({', '.join('?' * len(whole[0]))})"
    path = tmp_path / "kinds.duckdb"
    path.unlink(missing_ok=True)
    with duckdb.connect(path) as connection:
        connection.execute(made.replace("numeric,", "numeric(25, 5),"))  # DuckDB has none of any width
        connection.executemany(filled, whole)
    server.admin.execute("DROP TABLE IF EXISTS kinds; " + made + "; GRANT SELECT ON kinds TO reader")  # type: ignore[arg-type]
    with server.admin.cursor() as cursor:
        cursor.executemany(filled.replace("?", "%s"), whole)  # type: ignore[arg-type]
    urls = [f"duckdb://{path}", server.url(), server.url("redshift")]
    assert len({taken(monkeypatch, url) for url in urls}) == 1


@pytest.mark.usefixtures("workspace")
class TestWhatOnlyPostgresqlHas:
    def test_becomes_a_text_and_decimals_of_any_width_doubles(
        self, monkeypatch: pytest.MonkeyPatch, own: Warehouse
    ) -> None:
        own.do("CREATE TYPE own.mood AS ENUM ('calm', 'wild')")
        own.do(
            "CREATE VIEW own.odd AS SELECT seen, 'wild'::own.mood AS mood, 1.1::numeric AS loose, 'ab'::char(5) AS five"
            ", '00000000-0000-0000-0000-000000000001'::uuid AS one, '{}'::json AS json FROM own.events LIMIT 1"
        )
        own.do("GRANT SELECT ON own.odd TO reader")
        for scheme in ("postgresql", "redshift"):
            query = "SELECT * FROM odd WHERE seen >= $since AND seen < $until"
            table = warehouse.rows(opened(monkeypatch, own.url(scheme, after="/own")), query, BEGIN, END)
            [row] = warehouse.stream(table).read_all().to_pylist()
            one = "00000000-0000-0000-0000-000000000001"
            assert row == {"seen": BEGIN, "mood": "wild", "loose": 1.1, "five": "ab", "one": one, "json": "{}"}


@pytest.mark.usefixtures("workspace")
class TestMemory:
    @pytest.mark.parametrize("scheme", ["duckdb", "postgresql", "redshift"])
    def test_the_first_rows_of_very_many_come_before_the_last_are_made(
        self, monkeypatch: pytest.MonkeyPatch, server: Warehouse, scheme: str
    ) -> None:
        """Of so many that no memory has room for them, nor any test the time."""
        many = ", ".join(f"events AS e{n}" for n in range(5))
        query = f"SELECT e0.* FROM {many} WHERE e0.seen >= $since AND e0.seen < $until"
        url = "duckdb://.ct/warehouse.duckdb" if scheme == "duckdb" else server.url(scheme)
        source = opened(monkeypatch, url)
        reader = warehouse.stream(warehouse.rows(source, query, BEGIN, END))
        assert reader.read_next_batch().num_rows > 0
        del reader
        source.disconnect()


@pytest.mark.usefixtures("workspace", "_impatient")
class TestAWrongAddress:
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
    @BOTH
    def test_is_explained_without_its_password(
        self, monkeypatch: pytest.MonkeyPatch, server: Warehouse, scheme: str, old: str, new: str, message: str
    ) -> None:
        assert message in problem(monkeypatch, server.url(scheme).replace(old, new))

    def test_with_a_wrong_port_says_that_nobody_answers(
        self, monkeypatch: pytest.MonkeyPatch, server: Warehouse
    ) -> None:
        assert "Connection refused" in problem(monkeypatch, server.url(port=free_port()))

    def test_of_something_that_never_answers_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch, server: Warehouse
    ) -> None:
        monkeypatch.setitem(postgresql.PATIENCE, "connect_timeout", "2")  # libpq's least
        with socket.create_server(("127.0.0.1", 0)) as silent:
            assert "timeout expired" in problem(monkeypatch, server.url(port=silent.getsockname()[1]))

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
    def test_whose_driver_is_missing_names_the_command_that_installs_it(
        self, monkeypatch: pytest.MonkeyPatch, scheme: str, module: str, extra: str
    ) -> None:
        for name in [
            name for name in sys.modules if name.startswith(("continuous_training.data.backends.", "ibis.backends."))
        ]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, module, None)
        message = problem(monkeypatch, f"{scheme}://reader:hunter2@warehouse.example/facts")
        assert message.endswith(f"is not installed: pip install '.[{extra}]'")


@pytest.mark.usefixtures("workspace", "_impatient")
class TestRights:
    def test_a_table_that_this_user_may_not_read_is_named(
        self, monkeypatch: pytest.MonkeyPatch, own: Warehouse
    ) -> None:
        own.do("REVOKE SELECT ON own.events FROM reader")
        assert "permission denied for table events" in problem(monkeypatch, own.url(after="/own"))

    def test_a_table_that_is_not_there_is_named(self, monkeypatch: pytest.MonkeyPatch, server: Warehouse) -> None:
        change("FROM events", "FROM happenings")
        assert 'relation "happenings" does not exist' in problem(monkeypatch, server.url())


@pytest.mark.usefixtures("workspace", "_impatient")
class TestAConnectionThatBreaksHalfWay:
    @BOTH
    def test_is_made_anew_and_all_rows_are_asked_for_again(
        self, monkeypatch: pytest.MonkeyPatch, server: Warehouse, caplog: pytest.LogCaptureFixture, scheme: str
    ) -> None:
        with relay(server.port, lambda number, came: number < 3 and came > 50_000) as port:
            assert taken(monkeypatch, server.url(scheme, port)) == taken(monkeypatch, server.url())
        assert len([message for message in caplog.messages if "all rows are asked for anew" in message]) == 2

    def test_again_and_again_ends_the_run_and_leaves_nothing(
        self, monkeypatch: pytest.MonkeyPatch, server: Warehouse
    ) -> None:
        with relay(server.port, lambda _, came: came > 50_000) as port:
            assert "gave up during the query" in problem(monkeypatch, server.url(port=port))

    def test_by_an_administrator_is_made_anew(
        self, monkeypatch: pytest.MonkeyPatch, own: Warehouse, caplog: pytest.LogCaptureFixture
    ) -> None:
        own.do("UPDATE own.events SET shade = repeat(shade, 3000)")  # more than sockets have room for

        def terminated(number: int, came: int) -> bool:
            if number == 1 and came > 50_000:
                own.do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'")
            return False

        with relay(own.port, terminated) as port:
            assert taken(monkeypatch, own.url(port=port, after="/own")) == taken(monkeypatch, own.url(after="/own"))
        assert "all rows are asked for anew" in caplog.text

    def test_by_a_server_that_was_killed_ends_the_run_when_it_does_not_come_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Postgresql() as doomed, closing((made := Warehouse(doomed)).admin):
            made.do("UPDATE events SET shade = repeat(shade, 3000)")
            end = threading.Thread(target=doomed.__exit__)

            def killed(_: int, came: int) -> bool:
                if came > 50_000 and not end.ident:
                    end.start()
                return False

            with relay(made.port, killed) as port:
                assert "cannot be opened" in problem(monkeypatch, made.url(port=port))
            end.join()


@pytest.mark.usefixtures("workspace", "_impatient")
class TestPatience:
    def test_a_lock_that_is_never_let_go_does_not_hold_a_run_for_ever(
        self, monkeypatch: pytest.MonkeyPatch, own: Warehouse
    ) -> None:
        with psycopg.connect(own.server.url) as other:
            other.execute("LOCK TABLE own.events")
            hurried = "/own?options=-c%20statement_timeout%3D100"
            assert "due to statement timeout" in problem(monkeypatch, own.url(after=hurried))

    @BOTH
    def test_a_statement_ends_and_a_silent_network_is_noticed(
        self, monkeypatch: pytest.MonkeyPatch, server: Warehouse, scheme: str
    ) -> None:
        source = opened(monkeypatch, server.url(scheme))
        assert source.con.execute("SHOW statement_timeout").fetchone() == ("2h",)
        assert source.con.info.get_parameters().items() >= postgresql.PATIENCE.items()


@pytest.mark.usefixtures("workspace", "_impatient")
class TestAnotherSchema:
    """The source has changed since the last run."""

    def test_without_a_column_ends_at_snapshot(self, monkeypatch: pytest.MonkeyPatch, own: Warehouse) -> None:
        own.do("ALTER TABLE own.events DROP COLUMN y")
        assert 'column "y" does not exist' in problem(monkeypatch, own.url(after="/own"))

    def test_with_another_type_ends_at_check_data(self, monkeypatch: pytest.MonkeyPatch, own: Warehouse) -> None:
        own.do("ALTER TABLE own.events ALTER y TYPE text")
        monkeypatch.setenv("CT_WAREHOUSE_URL", own.url(after="/own"))
        failed = {check.column: check.message for check in Pipeline(monkeypatch).checks() if not check.passed}
        assert failed == {"y": "is object, should be number"}


@pytest.mark.usefixtures("workspace", "_impatient")
class TestTimes:
    def test_that_are_null_are_found_by_check_data(self, monkeypatch: pytest.MonkeyPatch, own: Warehouse) -> None:
        change("AND seen < $until", "AND seen < $until OR seen IS NULL")
        own.do("UPDATE own.events SET seen = NULL WHERE id % 100 = 0")
        monkeypatch.setenv("CT_WAREHOUSE_URL", own.url(after="/own"))
        [failed] = [check for check in Pipeline(monkeypatch).checks() if not check.passed]
        assert failed.column == "seen"
        assert failed.message.startswith("is null in 0.0% of the training rows and")

    def test_that_are_null_in_every_fresh_row_end_the_snapshot(
        self, monkeypatch: pytest.MonkeyPatch, own: Warehouse
    ) -> None:
        change("AND seen < $until", "AND seen < $until OR seen IS NULL")
        own.do("UPDATE own.events SET seen = NULL WHERE seen >= '2020-02-01'")
        assert "«seen» is null in all" in problem(monkeypatch, own.url(after="/own"))

    def test_that_leave_no_row_in_the_windows_are_told(self, monkeypatch: pytest.MonkeyPatch, own: Warehouse) -> None:
        own.do("UPDATE own.events SET seen = seen - interval '10 years'")
        message = problem(monkeypatch, own.url(after="/own"))
        assert "the query returned no rows" in message
        assert "its data runs from 2010-01-01" in message


@pytest.mark.usefixtures("workspace")
class TestRedshift:
    """What is sent to it, as the server here has logged it, has nothing in it that Redshift is known not to have."""

    LACKS = r"pg_|\$\d|\b(CREATE|DECLARE|FETCH|COPY|SAVEPOINT|PREPARE|DEALLOCATE|LATERAL|FILTER|ARRAY|UNNEST)\b|::"

    def test_is_asked_for_nothing_that_it_lacks(self, monkeypatch: pytest.MonkeyPatch, server: Warehouse) -> None:
        server.do("ALTER ROLE reader SET log_statement TO 'all'")
        before = server.server.log.stat().st_size
        try:
            taken(monkeypatch, server.url("redshift"))
        finally:
            server.do("ALTER ROLE reader RESET log_statement")
        logged = server.server.log.read_text()[before:]
        sent = re.findall(r"LOG:  (?:statement|execute [^:]+): (.*)", logged)
        sent = [statement for statement in sent if not statement.startswith("ALTER ROLE")]
        assert [statement for statement in sent if re.search(self.LACKS, statement, re.IGNORECASE)] == []
        assert {statement.partition(" ")[0] for statement in sent} == {"SET", "SELECT"}

    @pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
    def test_talks_utf_8_whatever_a_user_is_set_to(
        self, monkeypatch: pytest.MonkeyPatch, server: Warehouse, encoding: str
    ) -> None:
        """Its own name for UTF-8 is one that psycopg does not know."""
        monkeypatch.setenv("PGCLIENTENCODING", encoding)
        source = opened(monkeypatch, server.url("redshift"))
        assert source.con.execute("SELECT 'Ærø'").fetchone() == ("Ærø",)

    @BOTH
    def test_like_postgresql_has_newest_rows_for_the_monitor(
        self, monkeypatch: pytest.MonkeyPatch, own: Warehouse, scheme: str
    ) -> None:
        """The hash that a sample is drawn by has another name there; its function stands in here."""
        own.do("CREATE FUNCTION public.fnv_hash(text) RETURNS bigint RETURN hashtextextended($1, 0)")
        try:
            monkeypatch.setenv("CT_WAREHOUSE_URL", own.url(scheme))
            asked = newest.read(Pipeline(monkeypatch).given, datetime(2020, 3, 1))
            found = asked.counts({"red": asked.table.shade == "red", "known": asked.table.y.notnull()})
            monkeypatch.delenv("CT_WAREHOUSE_URL")
            here = newest.read(Pipeline(monkeypatch).given, datetime(2020, 3, 1))
            assert found == here.counts({"red": here.table.shade == "red", "known": here.table.y.notnull()})
            assert asked.sample(10).equals(asked.sample(10))
        finally:
            own.do("DROP FUNCTION public.fnv_hash(text)")
