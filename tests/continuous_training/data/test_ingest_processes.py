"""Syncs with the real PyAirbyte: the warehouse gets each new row of a source once, also after a killed sync."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
import yaml

from conftest import ROOT, enter_workspace, wait_until
from continuous_training import environments
from continuous_training.data import sources, warehouse
from continuous_training.data.ingestion import source, syncing
from continuous_training.errors import UserError
from continuous_training.settings import load_settings, parse_as_of
from postgresql import Postgresql, needs_postgresql
from pyairbyte_fork_server import CLIENT, KILL_BEFORE

pytestmark = pytest.mark.integration

TESTS = Path(__file__).parents[1]
SCHEMA = {
    "id": {"type": "integer"},
    "seen": {"type": "string", "format": "date-time"},
    "shade": {"type": ["null", "string"]},
    "x": {"type": "number"},
    "y": {"type": ["null", "number"]},
    "late": {"type": "boolean"},
}


@pytest.fixture(scope="module")
def python(env_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a client of the shared fork server, which replaces the Python of PyAirbyte's environment."""
    folder, parent = tmp_path_factory.getbasetemp(), os.getpid()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder, parent = folder.parent, os.getppid()
    address, client = folder / "pyairbyte", folder / "pyairbyte_python"
    with (folder / "pyairbyte.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not address.exists():
            client.write_text(CLIENT.format(python=Path(sys.executable).resolve(), address=str(address)))
            client.chmod(0o755)
            command = [
                env_python("jenkins/ingest"),
                TESTS / "pyairbyte_fork_server.py",
                address,
                ROOT / syncing.PROGRAM,
                str(parent),
            ]
            with (folder / "pyairbyte.log").open("wb") as log:
                server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            wait_until(lambda: address.exists() or server.poll() is not None, "PyAirbyte is imported")
    return client


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Postgresql]:
    with Postgresql() as server:
        yield server


class Events:
    """An Airbyte source of events, in a workspace with a model of events."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "source"
        self.name = "events"
        self.stream: dict[str, Any] = {"key": ["id"]}
        self.schema = dict(SCHEMA)
        self.modes = {"supported_sync_modes": ["full_refresh", "incremental"], "default_cursor_field": ["seen"]}
        self.rows: list[dict[str, Any]] = []

    def add(self, *numbers: int, **values: Any) -> None:
        """Add events, one per minute."""
        for number in numbers:
            seen = f"2020-04-01T{number // 60:02}:{number % 60:02}:00Z"
            event = {"id": 100_000 + number, "seen": seen, "shade": "red", "x": 0.5, "y": None, "late": False}
            self.rows.append(event | values)

    def sync(self, **config: Any) -> int:
        """Sync the source; return the number of rows that were read."""
        self.folder.mkdir(exist_ok=True)
        stream = {"name": "events", "json_schema": {"type": "object", "properties": self.schema}} | self.modes
        (self.folder / "stream.json").write_text(json.dumps(stream))
        (self.folder / "rows.json").write_text(json.dumps(self.rows))
        content = {"connector": "airbyte_source", "streams": {self.name: self.stream}}
        content["config"] = {"folder": str(self.folder)} | config
        (source.FOLDER / "events.yaml").write_text(yaml.safe_dump(content))
        return syncing.sync("events", load_settings("toy")).streams["events"]


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: Path, env_python: Callable[[str], Path]) -> Events:
    """Enter a workspace with a source."""
    connector = tmp_path / "bin" / "airbyte_source"
    connector.parent.mkdir()
    connector.write_text(f"#!{Path(sys.executable).resolve()} -IS\n{(TESTS / 'airbyte_source.py').read_text()}")
    connector.chmod(0o755)
    enter_workspace(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", f"{connector.parent}:{os.environ['PATH']}")
    shutil.copytree(ROOT / source.FOLDER, source.FOLDER)
    faker = env_python("jenkins/ingest/source-faker")
    monkeypatch.setattr(
        environments, "ensure_python", lambda lock: faker if lock.parent.name == "source-faker" else python
    )
    return Events(tmp_path)


Query = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(params=["duckdb", pytest.param("postgresql", marks=needs_postgresql)])
def query(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Query]:
    """Return a function that queries an empty warehouse in UTC."""
    if request.param == "duckdb":
        monkeypatch.setenv("CT_WAREHOUSE_URL", "duckdb://new.duckdb")

        def query(statement: str) -> list[tuple[Any, ...]]:
            with duckdb.connect("new.duckdb", read_only=True) as connection:
                return connection.sql(statement).fetchall()

        yield query
    else:
        url = request.getfixturevalue("postgresql").url
        monkeypatch.setenv("CT_WAREHOUSE_URL", url)
        with psycopg.connect(url, autocommit=True) as connection:
            yield lambda statement: connection.execute(statement).fetchall()
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


def count_events() -> int:
    """Count the events in the model's warehouse."""
    with duckdb.connect(".ct/warehouse.duckdb", read_only=True) as connection:
        return connection.sql("FROM events").count("*").fetchone()[0]


def test_a_second_sync_reads_only_new_rows_even_if_there_are_none(events: Events, query: Query) -> None:
    events.add(*range(60))
    assert events.sync() == 60
    events.add(*range(60, 80))
    assert events.sync() == 20
    assert events.sync() == 0
    assert query("SELECT COUNT(*), COUNT(DISTINCT id) FROM events") == [(80, 80)]


@pytest.mark.parametrize(
    "call",
    [
        "airbyte.shared.sql_processor:SqlProcessorBase._write_temp_table_to_final_table",
        "airbyte.caches._state_backend:SqlStateWriter._write_state",
    ],
)
def test_the_sync_after_one_that_was_killed_while_writing_completes_it_without_duplicates(
    events: Events, query: Query, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    events.add(*range(40))
    monkeypatch.setenv(KILL_BEFORE, call)
    with pytest.raises(UserError, match="without a result"):
        events.sync()
    monkeypatch.delenv(KILL_BEFORE)
    assert events.sync() == 40
    assert query("SELECT COUNT(*), COUNT(DISTINCT id) FROM events") == [(40, 40)]
    names = query("SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'events%'")
    assert names == [("events",)]


def test_a_sync_that_is_killed_while_reading_leaves_the_warehouse_unchanged(
    events: Events,
) -> None:
    before = count_events()
    events.add(*range(40))
    with pytest.raises(UserError, match="without a result"):
        events.sync(kills=True)
    assert count_events() == before
    assert events.sync() == 40
    assert count_events() == before + 40


def test_the_last_of_two_rows_with_one_key_is_stored(events: Events, query: Query) -> None:
    events.add(1, x=1)
    events.add(2, x=2)
    events.add(2, x=3)
    events.add(1, x=4)
    events.sync()
    assert query("SELECT id, CAST(x AS INTEGER) FROM events ORDER BY id") == [(100_001, 4), (100_002, 3)]


def test_times_are_stored_in_utc_and_numeric_strings_as_strings(events: Events, query: Query) -> None:
    events.add(1, seen="2020-04-01T09:00:00+02:00", shade="007", x=5)
    events.sync()
    assert query("SELECT CAST(seen AS VARCHAR), shade, CAST(x AS INTEGER) FROM events") == [
        ("2020-04-01 07:00:00", "007", 5)
    ]


def test_a_new_column_of_the_source_is_a_new_column_of_the_table(events: Events, query: Query) -> None:
    events.add(1)
    events.sync()
    events.schema["gate"] = {"type": "string"}
    events.add(2, gate="B7")
    events.sync()
    assert query("SELECT gate FROM events ORDER BY id") == [(None,), ("B7",)]


def test_a_column_with_a_changed_type_is_named_and_the_table_is_unchanged(events: Events, query: Query) -> None:
    events.add(1)
    events.sync()
    events.schema["x"] = {"type": "string"}
    events.add(2, x="far")
    with pytest.raises(UserError, match="warehouse does not accept the rows: .*x"):
        events.sync()
    assert query("SELECT COUNT(*) FROM events") == [(1,)]


def test_a_full_refresh_without_a_key_replaces_its_table(events: Events, query: Query) -> None:
    events.modes, events.stream = {"supported_sync_modes": ["full_refresh"]}, {}
    events.add(1, 2)
    assert events.sync() == 2
    events.rows.pop(0)
    assert events.sync() == 1
    assert query("SELECT id FROM events") == [(100_002,)]


def test_the_stream_of_a_dropped_table_is_read_from_its_beginning(events: Events) -> None:
    events.add(1)
    events.sync()
    with duckdb.connect(".ct/warehouse.duckdb") as connection:
        connection.execute("DROP TABLE events")
    events.add(2)
    assert events.sync() == 2


def test_new_rows_are_returned_by_the_models_query(events: Events) -> None:
    settings = load_settings("toy")
    events.add(*range(20))
    events.sync()
    since, until = parse_as_of("2020-04-01", None), parse_as_of("2020-04-02", None)
    with sources.open_source(settings) as source:
        rows = source.read(since, until).read_all()
    assert rows.num_rows == 20
    assert rows["seen"].to_pylist()[0].tzinfo is None


@pytest.mark.integration(seconds=30)
@pytest.mark.usefixtures("events")
def test_a_second_sync_of_a_connector_from_airbyte_reads_only_new_rows() -> None:
    settings = load_settings("toy")
    assert syncing.sync("faker", settings).streams == {"users": 100, "products": 100}
    second = syncing.sync("faker", settings)
    assert second.streams == {"users": 0, "products": 0}
    assert second.summary.splitlines()[-1] == "0"
    assert warehouse.connect(settings).table("users", database="faker").count().execute() == 100


def test_a_warehouse_that_another_process_has_open_is_reported_at_once(events: Events) -> None:
    events.add(1)
    command = (
        "import duckdb, sys; c = duckdb.connect('.ct/warehouse.duckdb', read_only=True); print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        reader.stdout.readline()
        with pytest.raises(UserError, match="another process has the warehouse open: try again"):
            events.sync()
        reader.communicate(b"\n")
    assert events.sync() == 1


def test_the_password_of_an_unreachable_warehouse_is_not_shown(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT_WAREHOUSE_URL", "postgres://etl:s3cret@127.0.0.1:1/flights")
    with pytest.raises(UserError, match="warehouse cannot be opened: .*port 1 failed") as error:
        events.sync()
    assert "s3cret" not in str(error.value)


def test_the_connectors_error_is_reported_without_secrets(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTS_KEY", "s3cret")
    with pytest.raises(UserError, match=r"the connector fails: 401: \*\*\*\* is not the password"):
        events.sync(password="secret_reference::EVENTS_KEY", fails="401:\ns3cret is not the password")


def test_an_incremental_stream_without_a_key_is_rejected(events: Events) -> None:
    events.stream = {}
    with pytest.raises(UserError, match="the stream events has no key"):
        events.sync()


def test_an_unknown_stream_is_rejected_with_the_names_of_the_others(events: Events) -> None:
    events.name = "trains"
    with pytest.raises(UserError, match="no stream trains, only events"):
        events.sync()
