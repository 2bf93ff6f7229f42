"""New rows of a source come into the warehouse, each once, whatever happens meanwhile: by the real PyAirbyte."""

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

from conftest import ROOT, enter, wait_until
from continuous_training import environments
from continuous_training.data import warehouse
from continuous_training.data.ingestion import source, syncing
from continuous_training.errors import UserError
from continuous_training.settings import load_settings, parse_as_of
from forking import CALLER, DIES_BEFORE
from postgresql import Postgresql, needs_postgresql

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
def python(python_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what stands for the Python of PyAirbyte's environment: the same for all processes of these tests."""
    folder, until = tmp_path_factory.getbasetemp(), os.getpid()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder, until = folder.parent, os.getppid()
    address, caller = folder / "pyairbyte", folder / "python"
    with (folder / "pyairbyte.turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not address.exists():
            caller.write_text(CALLER.format(python=Path(sys.executable).resolve(), address=str(address)))
            caller.chmod(0o755)
            command = [python_of("jenkins/ingest"), TESTS / "forking.py", address, ROOT / syncing.PROGRAM, str(until)]
            with (folder / "pyairbyte.log").open("wb") as log:
                there = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            wait_until(lambda: address.exists() or there.poll() is not None, "PyAirbyte is imported")
    return caller


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Postgresql]:
    with Postgresql() as server:
        yield server


class Events:
    """A source of events, in a workspace whose model learns from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "there"
        self.name = "events"
        self.stream: dict[str, Any] = {"key": ["id"]}
        self.schema = dict(SCHEMA)
        self.modes = {"supported_sync_modes": ["full_refresh", "incremental"], "default_cursor_field": ["seen"]}
        self.rows: list[dict[str, Any]] = []

    def add(self, *numbers: int, **values: Any) -> None:
        """Add events, one a minute."""
        for number in numbers:
            seen = f"2020-04-01T{number // 60:02}:{number % 60:02}:00Z"
            event = {"id": 100_000 + number, "seen": seen, "shade": "red", "x": 0.5, "y": None, "late": False}
            self.rows.append(event | values)

    def sync(self, **config: Any) -> int:
        """Sync it, and return how many rows were read."""
        self.folder.mkdir(exist_ok=True)
        message = {"name": "events", "json_schema": {"type": "object", "properties": self.schema}} | self.modes
        (self.folder / "stream.json").write_text(json.dumps(message))
        (self.folder / "rows.json").write_text(json.dumps(self.rows))
        wanted = {"connector": "airbyte_source", "streams": {self.name: self.stream}}
        wanted["config"] = {"folder": str(self.folder)} | config
        (source.FOLDER / "events.yaml").write_text(yaml.safe_dump(wanted))
        return syncing.sync("events", load_settings("toy")).streams["events"]


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: Path, python_of: Callable[[str], Path]) -> Events:
    """Enter a workspace of this test's own that has a source."""
    connector = tmp_path / "bin" / "airbyte_source"
    connector.parent.mkdir()
    connector.write_text(f"#!{Path(sys.executable).resolve()} -IS\n{(TESTS / 'airbyte_source.py').read_text()}")
    connector.chmod(0o755)
    enter(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", f"{connector.parent}:{os.environ['PATH']}")
    shutil.copytree(ROOT / source.FOLDER, source.FOLDER)
    faker = python_of("jenkins/ingest/source-faker")
    monkeypatch.setattr(environments, "python", lambda lock: faker if lock.parent.name == "source-faker" else python)
    return Events(tmp_path)


Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(params=["duckdb", pytest.param("postgresql", marks=needs_postgresql)])
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """What asks the warehouse: one after the other, each empty, and in UTC."""
    if request.param == "duckdb":
        monkeypatch.setenv("CT_WAREHOUSE_URL", "duckdb://new.duckdb")

        def ask(query: str) -> list[tuple[Any, ...]]:
            with duckdb.connect("new.duckdb", read_only=True) as connection:
                return connection.sql(query).fetchall()

        yield ask
    else:
        url = request.getfixturevalue("postgresql").url
        monkeypatch.setenv("CT_WAREHOUSE_URL", url)
        with psycopg.connect(url, autocommit=True) as connection:
            yield lambda query: connection.execute(query).fetchall()
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


def stored() -> int:
    """Count the events in the warehouse of this model."""
    with duckdb.connect(".ct/warehouse.duckdb", read_only=True) as connection:
        return connection.sql("FROM events").count("*").fetchone()[0]


def test_a_second_sync_reads_only_what_is_new_even_if_that_is_nothing(events: Events, ask: Ask) -> None:
    events.add(*range(60))
    assert events.sync() == 60
    events.add(*range(60, 80))
    assert events.sync() == 20
    assert events.sync() == 0
    assert ask("SELECT COUNT(*), COUNT(DISTINCT id) FROM events") == [(80, 80)]


@pytest.mark.parametrize(
    "call",
    [
        "airbyte.shared.sql_processor:SqlProcessorBase._write_temp_table_to_final_table",
        "airbyte.caches._state_backend:SqlStateWriter._write_state",
    ],
)
def test_a_sync_killed_while_it_writes_and_run_again_ends_complete_and_without_duplicates(
    events: Events, ask: Ask, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    events.add(*range(40))
    monkeypatch.setenv(DIES_BEFORE, call)
    with pytest.raises(UserError, match="without an answer"):
        events.sync()
    monkeypatch.delenv(DIES_BEFORE)
    assert events.sync() == 40
    assert ask("SELECT COUNT(*), COUNT(DISTINCT id) FROM events") == [(40, 40)]
    names = ask("SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'events%'")
    assert names == [("events",)]


def test_a_sync_killed_while_it_reads_leaves_the_warehouse_as_it_was_and_reads_all_again(events: Events) -> None:
    before = stored()
    events.add(*range(40))
    with pytest.raises(UserError, match="without an answer"):
        events.sync(kills=True)
    assert stored() == before
    assert events.sync() == 40
    assert stored() == before + 40


def test_of_a_row_that_comes_twice_the_last_counts(events: Events, ask: Ask) -> None:
    events.add(1, x=1)
    events.add(2, x=2)
    events.add(2, x=3)
    events.add(1, x=4)
    events.sync()
    assert ask("SELECT id, CAST(x AS INTEGER) FROM events ORDER BY id") == [(100_001, 4), (100_002, 3)]


def test_times_are_utc_and_texts_that_look_like_numbers_stay_texts(events: Events, ask: Ask) -> None:
    events.add(1, seen="2020-04-01T09:00:00+02:00", shade="007", x=5)
    events.sync()
    assert ask("SELECT CAST(seen AS VARCHAR), shade, CAST(x AS INTEGER) FROM events") == [
        ("2020-04-01 07:00:00", "007", 5)
    ]


def test_a_new_column_of_the_source_is_a_new_column_of_the_table(events: Events, ask: Ask) -> None:
    events.add(1)
    events.sync()
    events.schema["gate"] = {"type": "string"}
    events.add(2, gate="B7")
    events.sync()
    assert ask("SELECT gate FROM events ORDER BY id") == [(None,), ("B7",)]


def test_a_column_of_another_type_is_named_and_the_table_stays_as_it_is(events: Events, ask: Ask) -> None:
    events.add(1)
    events.sync()
    events.schema["x"] = {"type": "string"}
    events.add(2, x="far")
    with pytest.raises(UserError, match="warehouse does not take the rows: .*x"):
        events.sync()
    assert ask("SELECT COUNT(*) FROM events") == [(1,)]


def test_a_stream_that_is_read_as_a_whole_and_has_no_key_replaces_its_table(events: Events, ask: Ask) -> None:
    events.modes, events.stream = {"supported_sync_modes": ["full_refresh"]}, {}
    events.add(1, 2)
    assert events.sync() == 2
    events.rows.pop(0)
    assert events.sync() == 1
    assert ask("SELECT id FROM events") == [(100_002,)]


def test_a_table_that_was_dropped_is_read_from_the_beginning(events: Events) -> None:
    events.add(1)
    events.sync()
    with duckdb.connect(".ct/warehouse.duckdb") as connection:
        connection.execute("DROP TABLE events")
    events.add(2)
    assert events.sync() == 2


def test_new_rows_of_the_table_that_a_model_learns_from_are_in_its_query(events: Events) -> None:
    given = load_settings("toy")
    events.add(*range(20))
    events.sync()
    since, until = parse_as_of("2020-04-01", None), parse_as_of("2020-04-02", None)
    found = warehouse.rows(warehouse.connect(given), given.data.query, since, until).to_pyarrow()
    assert found.num_rows == 20
    assert found["seen"].to_pylist()[0].tzinfo is None


@pytest.mark.integration(seconds=30)
@pytest.mark.usefixtures("events")
def test_a_source_of_airbyte_s_own_brings_only_what_is_new() -> None:
    given = load_settings("toy")
    assert syncing.sync("faker", given).streams == {"users": 100, "products": 100}
    again = syncing.sync("faker", given)
    assert again.streams == {"users": 0, "products": 0}
    assert again.summary.splitlines()[-1] == "0"
    assert warehouse.connect(given).table("users", database="faker").count().execute() == 100


def test_a_warehouse_that_somebody_has_open_is_not_waited_for(events: Events) -> None:
    events.add(1)
    command = (
        "import duckdb, sys; c = duckdb.connect('.ct/warehouse.duckdb', read_only=True); print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        reader.stdout.readline()
        with pytest.raises(UserError, match="open elsewhere: try again"):
            events.sync()
        reader.communicate(b"\n")
    assert events.sync() == 1


def test_a_warehouse_that_does_not_answer_is_named_without_its_password(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CT_WAREHOUSE_URL", "postgres://etl:s3cret@127.0.0.1:1/flights")
    with pytest.raises(UserError, match="warehouse cannot be opened: .*port 1 failed") as found:
        events.sync()
    assert "s3cret" not in str(found.value)


def test_what_the_connector_has_against_its_config_is_said_without_its_secrets(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTS_KEY", "s3cret")
    with pytest.raises(UserError, match=r"the connector fails: 401: \*\*\*\* is not the password"):
        events.sync(password="secret_reference::EVENTS_KEY", fails="401:\ns3cret is not the password")


def test_an_incremental_stream_without_a_key_is_refused(events: Events) -> None:
    events.stream = {}
    with pytest.raises(UserError, match="the stream events has no key"):
        events.sync()


def test_a_stream_that_is_not_there_is_refused_with_those_that_are(events: Events) -> None:
    events.name = "trains"
    with pytest.raises(UserError, match="no stream trains, only events"):
        events.sync()
