"""The predictions log: real journals and Parquet files of processes that run, end and are killed; DuckDB reads them."""

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
from continuous_training.serving.predictions_log import failure_log, journal, writer
from continuous_training.serving.predictions_log.columns import PredictionBatch
from continuous_training.serving.predictions_log.writer import PredictionsLog

NOON = datetime(2013, 4, 1, 12, 0, 0, 250, tzinfo=UTC)

WORKER = """
import json, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from continuous_training.serving.predictions_log.columns import PredictionBatch
from continuous_training.serving.predictions_log.writer import PredictionsLog

folder, name, kwargs = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
counts = {"logged": 0, "dropped": 0}

def count(outcome, rows):
    counts[outcome] += rows
    print(json.dumps(counts), flush=True)

def log_batch(n, text=""):
    ids = [(f"{name}-{n}-{k}", range(1)) for k in range(4)]
    at = datetime(2013, 4, 1, 12, tzinfo=UTC)
    inputs = {"n": np.full(4, n), "text": [text] * 4}
    log.append(PredictionBatch("1", "champion", ids, inputs, {}, np.full((4, 2), n / 2), at))

log = PredictionsLog(str(folder / "log"), "toy", state=folder / "state", count=count, **kwargs)
log.start()
"""


@pytest.fixture
def counts() -> Counter[str]:
    return Counter()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedMotoServer]:
    """Return an S3 server that is not started yet."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    yield server
    server.stop()


def make_batch(*requests: str, **fields: Any) -> PredictionBatch:
    """Make a batch with one row for each request, or with other fields."""
    rows = len(requests)
    defaults = {
        "version": "1",
        "role": "champion",
        "requests": [(request, range(1)) for request in requests],
        "inputs": {"x": np.arange(rows) / 4},
        "keys": {},
        "predictions": np.full(rows, 0.5),
        "time": NOON,
    }
    return PredictionBatch(**{**defaults, **fields})


@contextmanager
def open_log(folder: Path, counts: Counter[str], address: str = "", **options: Any) -> Iterator[PredictionsLog]:
    """Start a log in this process, and close it."""

    def count(outcome: str, rows: int) -> None:
        counts[outcome] += rows

    log = PredictionsLog(address or str(folder / "log"), "toy", state=folder / "state", count=count, **options)
    log.start()
    try:
        yield log
    finally:
        log.close()


def query(folder: Path, columns: str, order: str = "model_version, request_id, row") -> list[tuple[Any, ...]]:
    """Read the log as the monitor does."""
    files = f"read_parquet('{folder}/log/**/*.parquet', union_by_name=true, hive_partitioning=true)"
    return duckdb.sql(f"SELECT {columns} FROM {files} ORDER BY {order}").fetchall()


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def log_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for logger, _, message in caplog.record_tuples if logger == failure_log.__name__]


def start_worker(folder: Path, name: str, then: str, **options: Any) -> subprocess.Popen[str]:
    """Start a worker process with a log, which runs `then`."""
    command = [sys.executable, "-c", WORKER + then, str(folder), name, json.dumps(options)]
    return subprocess.Popen(command, env={"PYTHONPATH": str(ROOT / "src")}, text=True, stdout=-1, stderr=-1)


class TestRows:
    def test_they_have_all_fields_of_a_batch(self, tmp_path: Path, counts: Counter[str]) -> None:
        batch = PredictionBatch(
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
            predictions=np.array([[0.25, 0.75], [0.1, 0.9], [1.0, np.nan]]),
            time=NOON,
        )
        with open_log(tmp_path, counts) as log:
            log.append(batch)
        assert counts == {"logged": 3}
        assert query(tmp_path, "request_id, row, model, model_version, role") == [
            ("a", 0, "toy", "7", "canary"),
            ("a", 1, "toy", "7", "canary"),
            ("b", 0, "toy", "7", "canary"),
        ]
        assert query(tmp_path, "inputs") == [
            ({"x": 1.5, "n": 1, "carrier": "UA", "cargo": True, "tags": '["a",1]'},),
            ({"x": None, "n": 2, "carrier": None, "cargo": False, "tags": '{"b":null}'},),
            ({"x": -math.inf, "n": -3, "carrier": "Ünïted ✈", "cargo": True, "tags": None},),
        ]
        assert query(tmp_path, "keys.flight, answers[2]") == [(2**62, 0.75), (1, 0.9), (None, None)]
        assert query(tmp_path, "DISTINCT epoch_us(time), date", "ALL") == [
            (round(NOON.timestamp() * 1e6), date(2013, 4, 1))
        ]

    @pytest.mark.parametrize(
        ("predictions", "expected"),
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
    def test_predictions_are_lists_of_the_models_types(
        self, tmp_path: Path, counts: Counter[str], predictions: np.ndarray, expected: list[list[Any]]
    ) -> None:
        with open_log(tmp_path, counts) as log:
            log.append(make_batch("a", "b", predictions=predictions))
        assert [prediction for (prediction,) in query(tmp_path, "answers")] == expected

    def test_versions_with_different_inputs_can_be_read_together(self, tmp_path: Path, counts: Counter[str]) -> None:
        with open_log(tmp_path, counts) as log:
            log.append(make_batch("a", version="1", inputs={"x": [1.5], "old": ["o"]}))
            log.append(
                make_batch("a", version="2", inputs={"new": [True], "x": [2]}, predictions=np.array([[0.25, 0.75]]))
            )
        rows = query(tmp_path, "model_version, inputs.x, inputs.old, inputs.new, answers[2]")
        assert rows == [("1", 1.5, "o", None, None), ("2", 2.0, None, True, 0.75)]

    def test_keys_are_optional(self, tmp_path: Path, counts: Counter[str]) -> None:
        with open_log(tmp_path, counts) as log:
            log.append(make_batch("a"))
            log.append(make_batch("b", keys={"flight": ["UA 1"]}))
            log.append(make_batch("c", keys={"order": [7]}))
        rows = query(tmp_path, "request_id, keys.flight, keys.order")
        assert rows == [("a", None, None), ("b", "UA 1", None), ("c", None, 7)]

    def test_if_all_inputs_are_redacted_predictions_are_logged(self, tmp_path: Path, counts: Counter[str]) -> None:
        with open_log(tmp_path, counts, redacted=frozenset({"x"})) as log:
            log.append(make_batch("a"))
        assert query(tmp_path, "answers") == [([0.5],)]

    def test_a_column_with_a_wider_type_starts_a_file_and_keeps_the_type(
        self, tmp_path: Path, counts: Counter[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer, "FLUSH_SECONDS", 0.01)
        with open_log(tmp_path, counts) as log:
            for n, value in enumerate([None, 3, 2.5, 4, None, 5.5]):
                log.append(make_batch(str(n), inputs={"x": [value]}))
                wait_until(lambda n=n: counts["logged"] == n + 1, "the row is written")
        assert [x for (x,) in query(tmp_path, "inputs.x")] == [None, 3.0, 2.5, 4.0, None, 5.5]
        assert len(list_files(tmp_path)) == 3

    def test_unpaired_surrogates_are_escaped(self, tmp_path: Path, counts: Counter[str]) -> None:
        with open_log(tmp_path, counts, share=0.99) as log:
            log.append(make_batch("a\ud800", "b", inputs={"x": ["\udfff", "y"], "z": [["\ud800"], {}]}))
        assert query(tmp_path, "request_id, inputs.x, inputs.z") == [
            ("a\\ud800", "\\udfff", '["\\ud800"]'),
            ("b", "y", "{}"),
        ]

    def test_each_row_is_in_the_folder_of_its_day(self, tmp_path: Path, counts: Counter[str]) -> None:
        midnight = NOON.replace(hour=0, microsecond=0) + timedelta(days=1)
        with open_log(tmp_path, counts) as log:
            for n, time in enumerate([midnight - timedelta(microseconds=1), midnight]):
                log.append(make_batch(str(n), time=time))
        assert query(tmp_path, "request_id, date") == [("0", date(2013, 4, 1)), ("1", date(2013, 4, 2))]

    def test_a_batch_that_cannot_be_converted_affects_no_other_and_is_not_in_the_log_message(
        self, tmp_path: Path, counts: Counter[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        with open_log(tmp_path, counts) as log:
            log.append(make_batch("a"))
            log.append(make_batch("b", "c", inputs={"x": ["secret"]}))  # one value is missing
            log.append(make_batch("d"))
        assert query(tmp_path, "request_id") == [("a",), ("d",)]
        assert counts == {"logged": 2, "dropped": 2}
        assert "Cannot convert predictions" in caplog.text
        assert "secret" not in caplog.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
COLUMN_VALUES = st.one_of(
    st.lists(st.none() | st.floats(), min_size=1),
    st.lists(st.none() | st.integers() | st.integers(-(2**63), 2**63 - 1), min_size=1),
    st.lists(st.none() | st.text(), min_size=1),
    st.lists(st.none() | st.booleans(), min_size=1),
    st.lists(st.floats() | st.integers() | JSON, min_size=1),
)


def is_missing(value: Any) -> bool:
    return value is None or value != value


def have_one_type(values: list[Any]) -> bool:
    types = {type(value) for value in values if value is not None}
    fits = all(-(2**63) <= value < 2**63 for value in values if type(value) is int)
    return types <= {str} or types == {bool} or (types <= {int, float} and fits)


def is_same(value: Any, text: Any) -> bool:
    """Return whether a text is a value of a column with several types: itself if it is text, or its JSON."""
    if is_missing(value) or isinstance(value, str):
        return bool(text == (None if is_missing(value) else value))
    json_value = json.loads(text)
    return json_value == value and type(json_value) is type(value)


@settings(max_examples=40)
@given(values=COLUMN_VALUES, as_array=st.booleans())
def test_any_values_can_be_logged(tmp_path_factory: pytest.TempPathFactory, values: list[Any], as_array: bool) -> None:
    folder = tmp_path_factory.mktemp("log")
    array = np.empty(len(values), dtype=object)
    array[:] = values
    counts: Counter[str] = Counter()
    with open_log(folder, counts) as log:
        log.append(make_batch(*map(str, range(len(values))), inputs={"x": array if as_array else values}))
    assert counts == {"logged": len(values)}
    values_in_log = [x for (x,) in query(folder, "inputs.x", "request_id::INT")]
    if have_one_type(values):
        numbers = any(isinstance(value, float) for value in values)
        assert values_in_log == [None if is_missing(value) else float(value) if numbers else value for value in values]
    else:
        assert all(map(is_same, values, values_in_log))


@pytest.fixture(scope="module")
def killed_worker(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Kill a worker after a few batches; return its folder and the number of rows that it has reported as logged."""
    folder = tmp_path_factory.mktemp("killed")
    worker = start_worker(folder, "w", "for n in range(10**6): log_batch(n, 'wind'); time.sleep(0.001)")
    assert worker.stdout
    lines = [worker.stdout.readline() for _ in range(3)]
    worker.kill()
    rest, _ = worker.communicate()
    lines += [line for line in rest.splitlines() if line.endswith("}")]
    return folder, json.loads(lines[-1])["logged"]


@pytest.fixture
def leftovers(killed_worker: tuple[Path, int], tmp_path: Path) -> Path:
    """Return a copy of the killed worker's folder."""
    return shutil.copytree(killed_worker[0], tmp_path / "copy")


class TestProcesses:
    def test_the_next_worker_moves_the_rows_of_a_killed_one_once(
        self, killed_worker: tuple[Path, int], leftovers: Path, counts: Counter[str]
    ) -> None:
        assert [Path(name).suffix for name in list_files(leftovers)] == [journal.SUFFIX]
        with open_log(leftovers, counts):
            pass
        rows = query(leftovers, "split_part(request_id, '-', 2)::INT AS n, inputs.n, answers, inputs.text", "n")
        assert len(rows) >= killed_worker[1]
        assert rows == [(n, n, [n / 2] * 2, "wind") for n in range(len(rows) // 4) for _ in range(4)]
        assert [Path(name).suffix for name in list_files(leftovers)] == [".parquet"]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content, _: content[:-1],
            lambda content, size: content[: 5 - size],
            lambda content, size: content[:-size] + content[-size:].replace(b"\4\0\0\0\x08\0\0\0", b"~" * 8),
        ],
        ids=["one byte missing", "only five bytes", "damaged"],
    )
    def test_only_an_incomplete_batch_is_dropped(
        self, leftovers: Path, counts: Counter[str], damage: Callable[[bytes, int], bytes]
    ) -> None:
        (path,) = leftovers.rglob(f"*{journal.SUFFIX}")
        *complete, last = pa.ipc.open_stream(path.read_bytes())
        path.write_bytes(damage(path.read_bytes(), last.serialize().size))
        with open_log(leftovers, counts):
            pass
        expected = [row["request_id"] for batch in complete for row in batch.to_pylist()]
        assert [request for (request,) in query(leftovers, "request_id", "inputs.n, request_id")] == expected
        assert expected

    def test_a_journal_without_a_complete_batch_is_removed(self, leftovers: Path, counts: Counter[str]) -> None:
        (path,) = leftovers.rglob(f"*{journal.SUFFIX}")
        path.write_bytes(path.read_bytes()[:100])
        with open_log(leftovers, counts):
            pass
        assert list_files(leftovers) == []

    def test_a_move_that_is_repeated_writes_no_row_twice(self, leftovers: Path, counts: Counter[str]) -> None:
        (path,) = leftovers.rglob(f"*{journal.SUFFIX}")
        content = path.read_bytes()
        with open_log(leftovers, counts):
            pass
        before, names = query(leftovers, "*"), list_files(leftovers)
        path.write_bytes(content)
        with open_log(leftovers, counts):
            pass
        assert (query(leftovers, "*"), list_files(leftovers)) == (before, names)

    def test_the_journal_of_a_running_worker_is_not_moved(self, tmp_path: Path, counts: Counter[str]) -> None:
        with open_log(tmp_path, counts) as log:
            log.append(make_batch("a"))
            wait_until(lambda: counts["logged"], "the row is written")
            with open_log(tmp_path, counts):
                pass
            assert [Path(name).suffix for name in list_files(tmp_path)] == [journal.SUFFIX]
        assert query(tmp_path, "request_id") == [("a",)]

    def test_with_several_workers_no_row_is_lost_or_repeated_and_readers_see_complete_files_only(
        self, tmp_path: Path
    ) -> None:
        then = "[(log_batch(n), time.sleep(0.01)) for n in range(100)]; log.close(); log_batch(100)"
        workers = [start_worker(tmp_path, name, then, rotate_rows=1) for name in "abc"]
        readings = []
        while any(worker.poll() is None for worker in workers):
            if any((tmp_path / "log").rglob("*.parquet")):
                readings.append(query(tmp_path, "count(*), count(DISTINCT request_id)", "ALL"))
        assert all(rows == distinct for ((rows, distinct),) in readings)
        expected = {(f"{name}-{n}-{k}", n) for name in "abc" for n in range(100) for k in range(4)}
        rows = query(tmp_path, "request_id, inputs.n")
        assert (len(rows), set(rows)) == (1200, expected)
        assert {Path(name).suffix for name in list_files(tmp_path)} == {".parquet"}
        for worker in workers:
            output, _ = worker.communicate()
            assert json.loads(output.splitlines()[-1]) == {"logged": 400, "dropped": 4}

    def test_a_full_disk_drops_rows_until_there_is_space_again(self, tmp_path: Path) -> None:
        then = """
import logging, resource
logging.basicConfig(level="INFO")

def limit_file_size(size):  # beyond it writes fail, within a batch too
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def log_until(outcome, rows):
    global n
    rows += counts[outcome]
    while counts[outcome] < rows:
        n += 1
        log_batch(n, "x" * 500)
        time.sleep(0.01)

n = 0
for _ in range(2):
    limit_file_size(100_000)
    log_until("dropped", 1)
    limit_file_size(resource.RLIM_INFINITY)
    log_until("logged", 1)
log.close()
print(json.dumps({**counts, "total": 4 * n}))
"""
        output, log_text = start_worker(tmp_path, "w", then).communicate()
        count = json.loads(output.splitlines()[-1])
        rows = query(tmp_path, "split_part(request_id, '-', 2)::INT AS n, length(inputs.text)", "n")
        assert count["logged"] + count["dropped"] == count["total"]
        assert len(rows) == len(set(query(tmp_path, "request_id"))) == count["logged"]
        assert rows[0] == (1, 500)
        assert rows[-1] == (count["total"] / 4, 500)
        assert (log_text.count("are dropped: [Errno 27] File too large"), log_text.count("are logged again")) == (2, 2)
        assert {Path(name).suffix for name in list_files(tmp_path)} == {".parquet"}


class TestFailures:
    @pytest.fixture(autouse=True)
    def _retry_quickly(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        monkeypatch.setattr(journal, "RETRY_SECONDS", 0.05)
        monkeypatch.setattr(journal, "MAX_RETRY_SECONDS", 0.2)
        caplog.set_level(logging.INFO, failure_log.__name__)

    def test_journals_stay_while_the_storage_cannot_be_written(
        self, tmp_path: Path, counts: Counter[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "log").write_text("a file where a folder should be")
        with open_log(tmp_path, counts, rotate_rows=1) as log:
            for n in range(3):
                log.append(make_batch(str(n)))
                wait_until(lambda n=n: counts["logged"] == n + 1, "the row is written")
            wait_until(lambda: log_messages(caplog), "it is in the log")
            (tmp_path / "log").unlink()
            wait_until(lambda: len(list_files(tmp_path / "log")) == 3, "they are moved")
        assert query(tmp_path, "request_id") == [("0",), ("1",), ("2",)]
        failure, recovery = log_messages(caplog)
        assert failure.startswith(
            f"Cannot move predictions to their storage, they stay in {tmp_path}/state/toy: [Errno"
        )
        assert recovery == "Predictions are moved again"

    def test_without_a_folder_for_journals_rows_are_dropped(
        self, tmp_path: Path, counts: Counter[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "state").write_text("a file where a folder should be")
        with open_log(tmp_path, counts) as log:
            log.append(make_batch("a"))
            wait_until(lambda: counts["dropped"] == 1, "the row is dropped")
            (tmp_path / "state").unlink()
            log.append(make_batch("b"))
        assert query(tmp_path, "request_id") == [("b",)]
        assert [line.partition(":")[0] for line in log_messages(caplog)] == [
            "Cannot log predictions of version 1, they are dropped",
            "The predictions of version 1 are logged again",
        ]

    def test_journals_have_a_maximum_size(
        self, tmp_path: Path, counts: Counter[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal, "MAX_BYTES", 1)
        (tmp_path / "log").write_text("a file where a folder should be")
        with open_log(tmp_path, counts, rotate_rows=1) as log:
            log.append(make_batch("a"))
            wait_until(lambda: counts["logged"] == 1, "the row is written")
            log.append(make_batch("b"))
            wait_until(lambda: counts["dropped"] == 1, "the row is dropped")
            (tmp_path / "log").unlink()
            wait_until(lambda: list_files(tmp_path / "state") == [], "the journals are moved")
            log.append(make_batch("c"))
        assert query(tmp_path, "request_id") == [("a",), ("c",)]

    def test_when_s3_is_available_again_journals_are_moved(
        self, tmp_path: Path, counts: Counter[str], s3: ThreadedMotoServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        bucket = "".join(filter(str.isalnum, tmp_path.name))
        with open_log(tmp_path, counts, f"s3://{bucket}/logs/") as log:
            log.append(make_batch("a"))
        assert [Path(name).suffix for name in list_files(tmp_path)] == [journal.SUFFIX]
        caplog.clear()
        with open_log(tmp_path, counts, f"s3://{bucket}/logs/", rotate_rows=1) as log:
            log.append(make_batch("b"))
            wait_until(lambda: counts["logged"] == 2 and log_messages(caplog), "it is in the log")
            s3.start()
            client = boto3.client("s3")
            client.create_bucket(Bucket=bucket)
        assert list_files(tmp_path) == []
        assert [line.partition(" in ")[0] for line in log_messages(caplog)] == [
            "Cannot move predictions to their storage, they stay",
            "Predictions are moved again",
        ]
        for item in client.list_objects_v2(Bucket=bucket)["Contents"]:
            path = tmp_path / item["Key"].replace("logs/", "log/")
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, item["Key"], str(path))
        assert query(tmp_path, "request_id, date") == [("a", date(2013, 4, 1)), ("b", date(2013, 4, 1))]


class TestShare:
    IDS = [f"request {n}" for n in range(500)]

    def test_a_request_is_logged_completely_and_by_every_worker_and_role_or_not_at_all(self, tmp_path: Path) -> None:
        logs = []
        for role, size in [("champion", 50), ("shadow", 7)]:
            folder = tmp_path / role
            counts: Counter[str] = Counter()
            with open_log(folder, counts, share=0.3) as log:
                for start in range(0, len(self.IDS), size):
                    requests = [(request, range(len(request) - 8)) for request in self.IDS[start : start + size]]
                    values = [request for request, indices in requests for _ in indices]
                    inputs = {"x": values, "y": np.array(list(map(len, values)))}
                    predictions = np.array(list(map(len, values)))
                    log.append(make_batch(requests=requests, inputs=inputs, predictions=predictions, role=role))
            logs.append(query(folder, "request_id, row, inputs.x, inputs.y, answers[1]"))
            assert counts == {"logged": len(logs[-1])}
        assert logs[0] == logs[1]
        sample = {request for request, *_ in logs[0]}
        assert len(sample) == 145  # in every process, whatever the seed of its hashes
        assert logs[0] == [
            (request, index, request, len(request), len(request))
            for request in sorted(sample)
            for index in range(len(request) - 8)
        ]

    @pytest.mark.parametrize(("share", "rows"), [(0, 0), (1, 500)])
    def test_none_and_all(self, tmp_path: Path, counts: Counter[str], share: float, rows: int) -> None:
        with open_log(tmp_path, counts, share=share) as log:
            log.append(make_batch(*self.IDS))
        assert counts["logged"] == rows
        assert counts["dropped"] == 0


def test_redacted_columns_are_stored_nowhere(tmp_path: Path, counts: Counter[str]) -> None:
    fields = {"inputs": {"x": [1.5], "name": ["Ada"]}, "keys": {"flight": ["UA 1"], "passport": ["P123"]}}
    with open_log(tmp_path, counts, redacted=frozenset({"name", "passport"})) as log:
        log.append(make_batch("a", **fields))
        wait_until(lambda: counts["logged"], "the row is written")
        (path,) = (tmp_path / "state").rglob("*.*")
        contents = [path.read_bytes()]
    (path,) = (tmp_path / "log").rglob("*.*")
    contents += [path.read_bytes(), repr(query(tmp_path, "*")).encode()]
    for content in (contents[0], contents[2]):
        assert b"UA 1" in content
    for content in contents:
        for text in (b"name", b"Ada", b"passport", b"P123"):
            assert text not in content
    assert query(tmp_path, "inputs, keys") == [({"x": 1.5}, {"flight": "UA 1"})]


def test_a_full_queue_drops_and_counts_rows(
    tmp_path: Path, counts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_QUEUE_ROWS", 3)
    monkeypatch.setattr(writer, "FLUSH_SECONDS", 3600)  # the queue is written when the log is closed
    with open_log(tmp_path, counts) as log:
        log.append(make_batch("a", "b"))
        log.append(make_batch("c", "d"))
        log.append(make_batch("e"))
        assert counts == {"dropped": 2}
    log.append(make_batch("f"))
    assert counts == {"dropped": 3, "logged": 3}
    assert query(tmp_path, "request_id") == [("a",), ("b",), ("e",)]


@pytest.mark.parametrize("limit", [{"rotate_rows": 2}, {"rotate_seconds": 0.1}], ids=str)
def test_rows_can_be_read_while_the_worker_runs(tmp_path: Path, counts: Counter[str], limit: dict[str, Any]) -> None:
    with open_log(tmp_path, counts, **limit) as log:
        log.append(make_batch("a", "b"))
        wait_until(lambda: any((tmp_path / "log").rglob("*.parquet")), "there is a file")
        assert query(tmp_path, "request_id") == [("a",), ("b",)]


@pytest.mark.parametrize("address", ["", "gs://bucket", "s3://", "s3:///prefix"])
def test_an_invalid_address_is_an_error(tmp_path: Path, address: str) -> None:
    with pytest.raises(UserError, match="is no address for the predictions log: use a folder, or s3://bucket/prefix"):
        PredictionsLog(address, "toy", state=tmp_path, count=lambda *_: None)


def test_an_invalid_share_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be from 0 to 1, not 50"):
        PredictionsLog("log", "toy", state=tmp_path, share=50, count=lambda *_: None)
