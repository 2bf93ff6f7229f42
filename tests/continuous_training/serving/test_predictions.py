"""The predictions log: real journals and Parquet files, read by DuckDB, of processes that live, end and are killed."""

from __future__ import annotations

import json
import logging
import math
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from conftest import ROOT, wait_until
from continuous_training.errors import UserError
from continuous_training.serving.predictions_log import journal
from continuous_training.serving.predictions_log import writer as predictions
from continuous_training.serving.predictions_log.writer import Batch, PredictionsLog

NOON = datetime(2013, 4, 1, 12, 0, 0, 250, tzinfo=UTC)

WORKER = """
import json, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from continuous_training.serving.predictions_log.writer import Batch, PredictionsLog

folder, name, kwargs = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
counts = {"logged": 0, "dropped": 0}

def count(what, rows):
    counts[what] += rows
    print(json.dumps(counts), flush=True)

def answer(n, text=""):
    ids = [(f"{name}-{n}-{k}", range(1)) for k in range(4)]
    at = datetime(2013, 4, 1, 12, tzinfo=UTC)
    log.append(Batch("1", "champion", ids, {"n": np.full(4, n), "text": [text] * 4}, {}, np.full((4, 2), n / 2), at))

log = PredictionsLog(str(folder / "log"), "toy", state=folder / "state", count=count, **kwargs)
log.start()
"""


@pytest.fixture
def counts() -> Counter[str]:
    return Counter()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedMotoServer]:
    """Have an address where S3 will answer when it is started."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    yield server
    server.stop()


def a_batch(*requests: str, **given: Any) -> Batch:
    """Make a batch of one row for each request, or as `given` says."""
    rows = len(requests)
    plain = {
        "version": "1",
        "role": "champion",
        "requests": [(request, range(1)) for request in requests],
        "inputs": {"x": np.arange(rows) / 4},
        "keys": {},
        "answers": np.full(rows, 0.5),
        "time": NOON,
    }
    return Batch(**{**plain, **given})


@contextmanager
def opened(folder: Path, counts: Counter[str], address: str = "", **given: Any) -> Iterator[PredictionsLog]:
    """Run a log of this process, and close it."""

    def count(what: str, rows: int) -> None:
        counts[what] += rows

    log = PredictionsLog(address or str(folder / "log"), "toy", state=folder / "state", count=count, **given)
    log.start()
    try:
        yield log
    finally:
        log.close()


def ask(folder: Path, what: str, order: str = "model_version, request_id, row") -> list[tuple[Any, ...]]:
    """Read the log as a monitor does."""
    files = f"read_parquet('{folder}/log/**/*.parquet', union_by_name=true, hive_partitioning=true)"
    return duckdb.sql(f"SELECT {what} FROM {files} ORDER BY {order}").fetchall()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def message(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for logger, _, message in caplog.record_tuples if logger == journal.__name__]


def begin(folder: Path, name: str, then: str, **given: Any) -> subprocess.Popen[str]:
    """Start a worker process that has a log, and does `then` with it."""
    command = [sys.executable, "-c", WORKER + then, str(folder), name, json.dumps(given)]
    return subprocess.Popen(command, env={"PYTHONPATH": str(ROOT / "src")}, text=True, stdout=-1, stderr=-1)


class TestRows:
    def test_they_come_back_as_they_were_answered(self, tmp_path: Path, counts: Counter[str]) -> None:
        batch = Batch(
            version="7",
            role="canary",
            requests=[("a", range(2)), ("b", range(1))],
            inputs={
                "x": np.array([1.5, np.nan, -math.inf]),
                "n": np.array([1, 2, -3], dtype=np.int32),
                "carrier": ["UA", None, "Ünïted ✈"],
                "cargo": np.array([True, False, True]),
                "tags": [["a", 1], {"b": None}, None],
            },
            keys={"flight": [2**62, 1, None]},
            answers=np.array([[0.25, 0.75], [0.1, 0.9], [1.0, np.nan]]),
            time=NOON,
        )
        with opened(tmp_path, counts) as log:
            log.append(batch)
        assert counts == {"logged": 3}
        assert ask(tmp_path, "request_id, row, model, model_version, role") == [
            ("a", 0, "toy", "7", "canary"),
            ("a", 1, "toy", "7", "canary"),
            ("b", 0, "toy", "7", "canary"),
        ]
        assert ask(tmp_path, "inputs") == [
            ({"x": 1.5, "n": 1, "carrier": "UA", "cargo": True, "tags": '["a",1]'},),
            ({"x": None, "n": 2, "carrier": None, "cargo": False, "tags": '{"b":null}'},),
            ({"x": -math.inf, "n": -3, "carrier": "Ünïted ✈", "cargo": True, "tags": None},),
        ]
        assert ask(tmp_path, "keys.flight, answers[2]") == [(2**62, 0.75), (1, 0.9), (None, None)]
        assert ask(tmp_path, "DISTINCT epoch_us(time), date", "ALL") == [
            (round(NOON.timestamp() * 1e6), date(2013, 4, 1))
        ]

    @pytest.mark.parametrize(
        ("answers", "expected"),
        [
            (np.array([0.5, np.nan]), [[0.5], [None]]),
            (np.array([0.5, 0.25], dtype=np.float32), [[0.5], [0.25]]),
            (np.array([1, 2]), [[1], [2]]),
            (np.array([True, False]), [[True], [False]]),
            (np.array(["late", "on time"]), [["late"], ["on time"]]),
            (np.array(["late", None], dtype=object), [["late"], [None]]),
            (np.array([["a", "b"], ["c", "d"]]), [["a", "b"], ["c", "d"]]),
        ],
        ids=["number", "narrow number", "integer", "boolean", "label", "object", "labels"],
    )
    def test_answers_are_lists_of_what_the_model_gives(
        self, tmp_path: Path, counts: Counter[str], answers: np.ndarray, expected: list[list[Any]]
    ) -> None:
        with opened(tmp_path, counts) as log:
            log.append(a_batch("a", "b", answers=answers))
        assert [answer for (answer,) in ask(tmp_path, "answers")] == expected

    def test_versions_with_other_inputs_are_read_together(self, tmp_path: Path, counts: Counter[str]) -> None:
        with opened(tmp_path, counts) as log:
            log.append(a_batch("a", version="1", inputs={"x": [1.5], "old": ["o"]}))
            log.append(a_batch("a", version="2", inputs={"new": [True], "x": [2]}, answers=np.array([[0.25, 0.75]])))
        found = ask(tmp_path, "model_version, inputs.x, inputs.old, inputs.new, answers[2]")
        assert found == [("1", 1.5, "o", None, None), ("2", 2.0, None, True, 0.75)]

    def test_clients_may_send_keys_or_leave_them_out(self, tmp_path: Path, counts: Counter[str]) -> None:
        with opened(tmp_path, counts) as log:
            log.append(a_batch("a"))
            log.append(a_batch("b", keys={"flight": ["UA 1"]}))
            log.append(a_batch("c", keys={"order": [7]}))
        found = ask(tmp_path, "request_id, keys.flight, keys.order")
        assert found == [("a", None, None), ("b", "UA 1", None), ("c", None, 7)]

    def test_without_inputs_that_may_be_written_there_are_answers_still(
        self, tmp_path: Path, counts: Counter[str]
    ) -> None:
        with opened(tmp_path, counts, redacted=frozenset({"x"})) as log:
            log.append(a_batch("a"))
        assert ask(tmp_path, "answers") == [([0.5],)]

    def test_a_column_that_turns_out_to_be_wider_begins_a_file_and_stays_so(
        self, tmp_path: Path, counts: Counter[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(predictions, "EVERY_SECONDS", 0.01)
        with opened(tmp_path, counts) as log:
            for n, cell in enumerate([None, 3, 2.5, 4, None, 5.5]):
                log.append(a_batch(str(n), inputs={"x": [cell]}))
                wait_until(lambda n=n: counts["logged"] == n + 1, "the row is written")
        assert [x for (x,) in ask(tmp_path, "inputs.x")] == [None, 3.0, 2.5, 4.0, None, 5.5]
        assert len(files(tmp_path)) == 3

    def test_half_a_character_is_no_reason_to_lose_a_row(self, tmp_path: Path, counts: Counter[str]) -> None:
        with opened(tmp_path, counts, share=0.99) as log:
            log.append(a_batch("a\ud800", "b", inputs={"x": ["\udfff", "y"], "z": [["\ud800"], {}]}))
        assert ask(tmp_path, "request_id, inputs.x, inputs.z") == [
            ("a\\ud800", "\\udfff", '["\\ud800"]'),
            ("b", "y", "{}"),
        ]

    def test_each_lies_under_its_own_day(self, tmp_path: Path, counts: Counter[str]) -> None:
        midnight = NOON.replace(hour=0, microsecond=0) + timedelta(days=1)
        with opened(tmp_path, counts) as log:
            for n, time in enumerate([midnight - timedelta(microseconds=1), midnight]):
                log.append(a_batch(str(n), time=time))
        assert ask(tmp_path, "request_id, date") == [("0", date(2013, 4, 1)), ("1", date(2013, 4, 2))]

    def test_one_that_cannot_be_written_takes_no_other_with_it_and_is_not_told(
        self, tmp_path: Path, counts: Counter[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        with opened(tmp_path, counts) as log:
            log.append(a_batch("a"))
            log.append(a_batch("b", "c", inputs={"x": ["secret"]}))  # a cell too few
            log.append(a_batch("d"))
        assert ask(tmp_path, "request_id") == [("a",), ("d",)]
        assert counts == {"logged": 2, "dropped": 2}
        assert "cannot be written" in caplog.text
        assert "secret" not in caplog.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
CELLS = st.one_of(
    st.lists(st.none() | st.floats(), min_size=1),
    st.lists(st.none() | st.integers() | st.integers(-(2**63), 2**63 - 1), min_size=1),
    st.lists(st.none() | st.text(), min_size=1),
    st.lists(st.none() | st.booleans(), min_size=1),
    st.lists(st.floats() | st.integers() | JSON, min_size=1),
)


def is_missing(cell: Any) -> bool:
    return cell is None or cell != cell


def is_of_one_kind(cells: list[Any]) -> bool:
    kinds = {type(cell) for cell in cells if cell is not None}
    fits = all(-(2**63) <= cell < 2**63 for cell in cells if type(cell) is int)
    return kinds <= {str} or kinds == {bool} or (kinds <= {int, float} and fits)


def same(cell: Any, read: Any) -> bool:
    """Say whether text that was read is a cell of a column of several kinds: itself if it was text, or its JSON."""
    if is_missing(cell) or isinstance(cell, str):
        return bool(read == (None if is_missing(cell) else cell))
    found = json.loads(read)
    return found == cell and type(found) is type(cell)


@settings(max_examples=40, deadline=None)
@given(cells=CELLS, as_array=st.booleans())
def test_whatever_the_cells_are_they_come_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[Any], as_array: bool
) -> None:
    folder = tmp_path_factory.mktemp("log")
    given = np.empty(len(cells), dtype=object)
    given[:] = cells
    counts: Counter[str] = Counter()
    with opened(folder, counts) as log:
        log.append(a_batch(*map(str, range(len(cells))), inputs={"x": given if as_array else cells}))
    assert counts == {"logged": len(cells)}
    read = [x for (x,) in ask(folder, "inputs.x", "request_id::INT")]
    if is_of_one_kind(cells):
        numbers = any(isinstance(cell, float) for cell in cells)
        assert read == [None if is_missing(cell) else float(cell) if numbers else cell for cell in cells]
    else:
        assert all(map(same, cells, read))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Have a worker killed while it answers, after a few batches; how many rows it had told to be logged."""
    folder = tmp_path_factory.mktemp("killed")
    worker = begin(folder, "w", "for n in range(10**6): answer(n, 'wind'); time.sleep(0.001)")
    assert worker.stdout
    told = [worker.stdout.readline() for _ in range(3)]
    worker.kill()
    rest, _ = worker.communicate()
    told += [line for line in rest.splitlines() if line.endswith("}")]
    return folder, json.loads(told[-1])["logged"]


@pytest.fixture
def left(killed: tuple[Path, int], tmp_path: Path) -> Path:
    """Have what that worker left for this test alone."""
    return shutil.copytree(killed[0], tmp_path / "left")


class TestProcesses:
    def test_what_a_killed_worker_had_written_is_there_once_when_another_starts(
        self, killed: tuple[Path, int], left: Path, counts: Counter[str]
    ) -> None:
        assert [Path(name).suffix for name in files(left)] == [journal.SUFFIX]
        with opened(left, counts):
            pass
        found = ask(left, "split_part(request_id, '-', 2)::INT AS n, inputs.n, answers, inputs.text", "n")
        assert len(found) >= killed[1]
        assert found == [(n, n, [n / 2] * 2, "wind") for n in range(len(found) // 4) for _ in range(4)]
        assert [Path(name).suffix for name in files(left)] == [".parquet"]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content, _: content[:-1],
            lambda content, size: content[: 5 - size],
            lambda content, size: content[:-size] + content[-size:].replace(b"\4\0\0\0\x08\0\0\0", b"~" * 8),
        ],
        ids=["cut off by a byte", "cut off by nearly all", "damaged"],
    )
    def test_a_batch_that_is_not_whole_is_left_out_and_only_that(
        self, left: Path, counts: Counter[str], damage: Callable[[bytes, int], bytes]
    ) -> None:
        (path,) = left.rglob(f"*{journal.SUFFIX}")
        *whole, last = pa.ipc.open_stream(path.read_bytes())
        path.write_bytes(damage(path.read_bytes(), last.serialize().size))
        with opened(left, counts):
            pass
        expected = [row["request_id"] for batch in whole for row in batch.to_pylist()]
        assert [request for (request,) in ask(left, "request_id", "inputs.n, request_id")] == expected
        assert expected

    def test_one_that_was_cut_off_before_its_first_batch_is_nothing(self, left: Path, counts: Counter[str]) -> None:
        (path,) = left.rglob(f"*{journal.SUFFIX}")
        path.write_bytes(path.read_bytes()[:100])
        with opened(left, counts):
            pass
        assert files(left) == []

    def test_a_mover_that_was_killed_before_it_removed_the_journal_is_repeated_without_a_row_twice(
        self, left: Path, counts: Counter[str]
    ) -> None:
        (path,) = left.rglob(f"*{journal.SUFFIX}")
        content = path.read_bytes()
        with opened(left, counts):
            pass
        before, moved = ask(left, "*"), files(left)
        path.write_bytes(content)
        with opened(left, counts):
            pass
        assert (ask(left, "*"), files(left)) == (before, moved)

    def test_nobody_takes_the_journal_of_a_worker_that_lives(self, tmp_path: Path, counts: Counter[str]) -> None:
        with opened(tmp_path, counts) as log:
            log.append(a_batch("a"))
            wait_until(lambda: counts["logged"], "the row is written")
            with opened(tmp_path, counts):
                pass
            assert [Path(name).suffix for name in files(tmp_path)] == [journal.SUFFIX]
        assert ask(tmp_path, "request_id") == [("a",)]

    def test_of_several_at_once_no_row_is_lost_or_twice_and_no_reader_sees_half_a_file(self, tmp_path: Path) -> None:
        then = "[(answer(n), time.sleep(0.01)) for n in range(100)]; log.close(); answer(100)"
        workers = [begin(tmp_path, name, then, rotate_rows=1) for name in "abc"]
        looks = []
        while any(worker.poll() is None for worker in workers):
            if any((tmp_path / "log").rglob("*.parquet")):
                looks.append(ask(tmp_path, "count(*), count(DISTINCT request_id)", "ALL"))
        assert all(rows == distinct for ((rows, distinct),) in looks)
        expected = {(f"{name}-{n}-{k}", n) for name in "abc" for n in range(100) for k in range(4)}
        found = ask(tmp_path, "request_id, inputs.n")
        assert (len(found), set(found)) == (1200, expected)
        assert {Path(name).suffix for name in files(tmp_path)} == {".parquet"}
        for worker in workers:
            told, _ = worker.communicate()
            assert json.loads(told.splitlines()[-1]) == {"logged": 400, "dropped": 4}

    def test_a_full_disk_drops_rows_until_there_is_room_again(self, tmp_path: Path) -> None:
        then = """
import logging, resource
logging.basicConfig(level="INFO")

def room(size):  # of any file that this process writes: beyond it the disk refuses, in the middle of a batch too
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def until(what, rows):
    global n
    rows += counts[what]
    while counts[what] < rows:
        n += 1
        answer(n, "x" * 500)
        time.sleep(0.01)

n = 0
for _ in range(2):
    room(100_000)
    until("dropped", 1)
    room(resource.RLIM_INFINITY)
    until("logged", 1)
log.close()
print(json.dumps({**counts, "answered": 4 * n}))
"""
        told, message = begin(tmp_path, "w", then).communicate()
        count = json.loads(told.splitlines()[-1])
        found = ask(tmp_path, "split_part(request_id, '-', 2)::INT AS n, length(inputs.text)", "n")
        assert count["logged"] + count["dropped"] == count["answered"]
        assert len(found) == len(set(ask(tmp_path, "request_id"))) == count["logged"]
        assert found[0] == (1, 500)
        assert found[-1] == (count["answered"] / 4, 500)
        assert (message.count("are dropped: [Errno 27] File too large"), message.count("are logged again")) == (2, 2)
        assert {Path(name).suffix for name in files(tmp_path)} == {".parquet"}


class TestTrouble:
    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        monkeypatch.setattr(journal, "RETRY_SECONDS", 0.05)
        monkeypatch.setattr(journal, "PATIENCE_SECONDS", 0.2)
        caplog.set_level(logging.INFO, journal.__name__)

    def test_journals_wait_for_an_address_that_cannot_be_written(
        self, tmp_path: Path, counts: Counter[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "log").write_text("a file where a folder should be")
        with opened(tmp_path, counts, rotate_rows=1) as log:
            for n in range(3):
                log.append(a_batch(str(n)))
                wait_until(lambda n=n: counts["logged"] == n + 1, "the row is written")
            wait_until(lambda: message(caplog), "it is told")
            (tmp_path / "log").unlink()
            wait_until(lambda: len(files(tmp_path / "log")) == 3, "they are moved")
        assert ask(tmp_path, "request_id") == [("0",), ("1",), ("2",)]
        failing, working = message(caplog)
        assert failing.startswith(f"Predictions wait in {tmp_path}/state/toy: [Errno")
        assert working == "Predictions are moved again"

    def test_without_a_place_for_journals_rows_are_dropped_and_the_server_serves_on(
        self, tmp_path: Path, counts: Counter[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "state").write_text("a file where a folder should be")
        with opened(tmp_path, counts) as log:
            log.append(a_batch("a"))
            wait_until(lambda: counts["dropped"] == 1, "the row is dropped")
            (tmp_path / "state").unlink()
            log.append(a_batch("b"))
        assert ask(tmp_path, "request_id") == [("b",)]
        assert [line.partition(":")[0] for line in message(caplog)] == [
            "Predictions of version 1 are dropped",
            "Predictions of version 1 are logged again",
        ]

    def test_no_more_than_so_many_bytes_wait(
        self, tmp_path: Path, counts: Counter[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal, "MOST_BYTES", 1)
        (tmp_path / "log").write_text("a file where a folder should be")
        with opened(tmp_path, counts, rotate_rows=1) as log:
            log.append(a_batch("a"))
            wait_until(lambda: counts["logged"] == 1, "the row is written")
            log.append(a_batch("b"))
            wait_until(lambda: counts["dropped"] == 1, "the row is dropped")
            (tmp_path / "log").unlink()
            wait_until(lambda: files(tmp_path / "state") == [], "what waits is moved")
            log.append(a_batch("c"))
        assert ask(tmp_path, "request_id") == [("a",), ("c",)]

    def test_what_s3_does_not_take_now_it_gets_when_it_is_back(
        self, tmp_path: Path, counts: Counter[str], s3: ThreadedMotoServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        bucket = "".join(filter(str.isalnum, tmp_path.name))
        with opened(tmp_path, counts, f"s3://{bucket}/logs/") as log:
            log.append(a_batch("a"))
        assert [Path(name).suffix for name in files(tmp_path)] == [journal.SUFFIX]
        caplog.clear()
        with opened(tmp_path, counts, f"s3://{bucket}/logs/", rotate_rows=1) as log:
            log.append(a_batch("b"))
            wait_until(lambda: counts["logged"] == 2 and message(caplog), "it is told")
            s3.start()
            client = boto3.client("s3")
            client.create_bucket(Bucket=bucket)
        assert files(tmp_path) == []
        assert [line.partition(" in ")[0] for line in message(caplog)] == [
            "Predictions wait",
            "Predictions are moved again",
        ]
        for found in client.list_objects_v2(Bucket=bucket)["Contents"]:
            path = tmp_path / found["Key"].replace("logs/", "log/")
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, found["Key"], str(path))
        assert ask(tmp_path, "request_id, date") == [("a", date(2013, 4, 1)), ("b", date(2013, 4, 1))]


class TestShare:
    IDS = [f"request {n}" for n in range(500)]

    def test_a_request_is_written_as_a_whole_and_by_every_worker_and_role_or_by_none(self, tmp_path: Path) -> None:
        found = []
        for role, at_once in [("champion", 50), ("shadow", 7)]:
            folder = tmp_path / role
            counts: Counter[str] = Counter()
            with opened(folder, counts, share=0.3) as log:
                for start in range(0, len(self.IDS), at_once):
                    requests = [(request, range(len(request) - 8)) for request in self.IDS[start : start + at_once]]
                    cells = [request for request, part in requests for _ in part]
                    inputs = {"x": cells, "y": np.array(list(map(len, cells)))}
                    answers = np.array(list(map(len, cells)))
                    log.append(a_batch(requests=requests, inputs=inputs, answers=answers, role=role))
            found.append(ask(folder, "request_id, row, inputs.x, inputs.y, answers[1]"))
            assert counts == {"logged": len(found[-1])}
        assert found[0] == found[1]
        chosen = {request for request, *_ in found[0]}
        assert len(chosen) == 145  # whatever the process, and the seed of its hashes
        assert found[0] == [(one, n, one, len(one), len(one)) for one in sorted(chosen) for n in range(len(one) - 8)]

    @pytest.mark.parametrize(("share", "written"), [(0, 0), (1, 500)])
    def test_none_and_all(self, tmp_path: Path, counts: Counter[str], share: float, written: int) -> None:
        with opened(tmp_path, counts, share=share) as log:
            log.append(a_batch(*self.IDS))
        assert counts["logged"] == written
        assert counts["dropped"] == 0


def test_what_is_redacted_leaves_no_trace(tmp_path: Path, counts: Counter[str]) -> None:
    shown = {"inputs": {"x": [1.5], "name": ["Ada"]}, "keys": {"flight": ["UA 1"], "passport": ["P123"]}}
    with opened(tmp_path, counts, redacted=frozenset({"name", "passport"})) as log:
        log.append(a_batch("a", **shown))
        wait_until(lambda: counts["logged"], "the row is written")
        (path,) = (tmp_path / "state").rglob("*.*")
        written = [path.read_bytes()]
    (path,) = (tmp_path / "log").rglob("*.*")
    written += [path.read_bytes(), repr(ask(tmp_path, "*")).encode()]
    for content in (written[0], written[2]):
        assert b"UA 1" in content
    for content in written:
        for trace in (b"name", b"Ada", b"passport", b"P123"):
            assert trace not in content
    assert ask(tmp_path, "inputs, keys") == [({"x": 1.5}, {"flight": "UA 1"})]


def test_a_full_queue_drops_what_comes_and_counts_it(
    tmp_path: Path, counts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "QUEUE_ROWS", 3)
    monkeypatch.setattr(predictions, "EVERY_SECONDS", 3600)  # until it is closed
    with opened(tmp_path, counts) as log:
        log.append(a_batch("a", "b"))
        log.append(a_batch("c", "d"))
        log.append(a_batch("e"))
        assert counts == {"dropped": 2}
    log.append(a_batch("f"))
    assert counts == {"dropped": 3, "logged": 3}
    assert ask(tmp_path, "request_id") == [("a",), ("b",), ("e",)]


@pytest.mark.parametrize("limit", [{"rotate_rows": 2}, {"rotate_seconds": 0.1}], ids=str)
def test_rows_can_be_read_while_the_worker_lives(tmp_path: Path, counts: Counter[str], limit: dict[str, Any]) -> None:
    with opened(tmp_path, counts, **limit) as log:
        log.append(a_batch("a", "b"))
        wait_until(lambda: any((tmp_path / "log").rglob("*.parquet")), "there is a file")
        assert ask(tmp_path, "request_id") == [("a",), ("b",)]


@pytest.mark.parametrize("address", ["", "gs://bucket", "s3://", "s3:///prefix"])
def test_an_address_that_names_no_place_is_a_problem(tmp_path: Path, address: str) -> None:
    with pytest.raises(UserError, match=f"cannot be kept at «{address}»: name a folder, or s3://bucket/prefix"):
        PredictionsLog(address, "toy", state=tmp_path, count=lambda *_: None)


def test_a_share_that_is_none_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot keep a share of 50: set one from 0 to 1"):
        PredictionsLog("log", "toy", state=tmp_path, share=50, count=lambda *_: None)
