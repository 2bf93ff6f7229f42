"""The predictions log: what the server was asked and what it answered, as Parquet files by day, for a monitor to read.

    SELECT inputs.x, answers[2] FROM read_parquet('<address>/<model>/**/*.parquet', union_by_name=true)

Each worker process has one log. A request waits for nothing but its place in a queue, which a thread empties a few
times a second into a journal on this machine's disk (`journal`). So what was answered more than a second ago outlives
the process, whatever ends it; a power failure may take what has not been moved to the log's address yet. What the disk
does not take is dropped and counted: the server serves on.

Whole numbers, other numbers, truth values and text are columns of their own types, where NaN and None are null. Any
other cell, and each cell of a column of several kinds, is text: JSON, or itself if it is text already.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, replace
from datetime import UTC
from functools import reduce
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

from continuous_training.errors import UserError
from continuous_training.serving.predictions_log.journal import Journals, Mover, Trouble, place

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date, datetime
    from pathlib import Path

EVERY_SECONDS = 0.2  # the queue is emptied
QUEUE_ROWS = 50_000
CLOSE_SECONDS = 10.0

NULL, BOOLEAN, INTEGER, NUMBER, TEXT = pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string()
PLAIN = {"b": BOOLEAN, "i": INTEGER, "f": NUMBER}  # arrays whose dtype says all
OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
MISSING = {type(None), type(pd.NA), type(pd.NaT)}


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call of the model answered.

    `requests` are the requests' ids, each with those of its rows that are in the batch, in their order. `inputs` and
    `keys` have a cell for each row; keys are what clients send beside the features, so that late labels can be joined.
    `role` is "champion", "canary" or "shadow"; `time` is when it was answered, in UTC.
    """

    version: str
    role: str
    requests: list[tuple[str, range]]
    inputs: dict[str, Any]
    keys: dict[str, list[Any]]
    answers: np.ndarray
    time: datetime


@dataclass(frozen=True)
class Columns:
    """The columns of a model version so far: they grow with what comes, so that few files differ."""

    inputs: dict[str, pa.DataType]
    keys: dict[str, pa.DataType]
    answers: pa.DataType = NULL

    def holding(self, batch: Batch) -> Columns:
        """Return columns that hold what these do, and a batch."""
        return Columns(
            {
                **self.inputs,
                **{name: _wider(self.inputs.get(name, NULL), cells) for name, cells in batch.inputs.items()},
            },
            {**self.keys, **{name: _wider(self.keys.get(name, NULL), cells) for name, cells in batch.keys.items()}},
            _wider(self.answers, batch.answers.ravel()),
        )

    def record(self, batch: Batch, model: str) -> pa.RecordBatch:
        """Return a batch in these columns. A struct without fields is left out: Parquet has none."""
        rows = len(batch.answers)
        answers = _array(batch.answers.ravel(), self.answers)
        columns = {
            "request_id": _array([one for one, part in batch.requests for _ in part], TEXT),
            "row": pa.array([row for _, part in batch.requests for row in part], pa.int32()),
            "time": pa.repeat(pa.scalar(batch.time, pa.timestamp("us", "UTC")), rows),
            "model": pa.repeat(model, rows),
            "model_version": pa.repeat(batch.version, rows),
            "role": pa.repeat(batch.role, rows),
            "inputs": _struct(batch.inputs, self.inputs, rows),
            "keys": _struct(batch.keys, self.keys, rows),
            "answers": pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * (len(answers) // rows), answers),
        }
        kept = {name: column for name, column in columns.items() if column is not None}
        return pa.RecordBatch.from_arrays(list(kept.values()), list(kept))


class PredictionsLog:
    """The log of one worker process.

    `share` is the share of requests that are written, all rows of a request or none; every worker and role chooses
    alike. The inputs and keys that are `redacted` are written nowhere. `count` is told of rows "logged" and "dropped",
    from any thread.

    Raises:
        UserError: the address names no place, or the share is none.
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        state: Path,
        share: float = 1.0,
        redacted: frozenset[str] = frozenset(),
        rotate_seconds: float = 60.0,
        rotate_rows: int = 100_000,
        count: Callable[[str, int], None],
    ) -> None:
        if not 0 <= share <= 1:
            raise UserError(f"the predictions log cannot keep a share of {share}: set one from 0 to 1")
        self._model = model
        self._share = share
        self._redacted = redacted
        self._count = count
        self._mover = Mover(state / model, place(address), model)
        self._journals = Journals(self._mover, rotate_seconds, rotate_rows)
        self._lock = threading.Lock()  # of the queue
        self._waiting: list[Batch] = []
        self._waiting_rows = 0
        self._closed = False
        self._columns: dict[str, Columns] = {}
        self._unfit = Trouble("Predictions that cannot be written are dropped", "")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="predictions", daemon=True)

    def start(self) -> None:
        """Begin to write, and to move what dead workers have left."""
        self._thread.start()
        self._mover.start()

    def append(self, batch: Batch) -> None:
        """Put a batch into the queue; it waits for no disk, and a queue that is full drops it."""
        rows = len(batch.answers)
        with self._lock:
            taken = not self._closed and (not self._waiting or self._waiting_rows + rows <= QUEUE_ROWS)
            if taken:
                self._waiting.append(batch)
                self._waiting_rows += rows
        if not taken:
            self._count("dropped", rows)

    def close(self) -> None:
        """Write all that waits and move it; what cannot be moved in time, the next worker moves."""
        with self._lock:
            self._closed = True
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)
            self._mover.stop(CLOSE_SECONDS)

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            self._empty_queue()
            self._journals.finish(all_of_them=False)
        self._empty_queue()
        self._journals.finish(all_of_them=True)

    def _empty_queue(self) -> None:
        with self._lock:
            waiting, self._waiting, self._waiting_rows = self._waiting, [], 0
        together: dict[tuple[str, date], list[Batch]] = {}
        for batch in waiting:
            together.setdefault((batch.version, batch.time.astimezone(UTC).date()), []).append(batch)
        for key, batches in together.items():
            self._write(key, batches)

    def _chosen(self, batch: Batch) -> Batch:
        """Return what is written of a batch: the requests of the share, and nothing that is redacted."""
        chosen = [self._share == 1 or _draw(request) < self._share for request, _ in batch.requests]
        rows = np.repeat(chosen, [len(part) for _, part in batch.requests])

        def written(columns: dict[str, Any]) -> dict[str, Any]:
            return {name: _picked(cells, rows) for name, cells in columns.items() if name not in self._redacted}

        return replace(
            batch,
            requests=list(compress(batch.requests, chosen)),
            inputs=written(batch.inputs),
            keys=written(batch.keys),
            answers=_picked(batch.answers, rows),
        )

    def _write(self, key: tuple[str, date], batches: list[Batch]) -> None:
        """Write batches of one version and day to its journal, or count them as dropped."""
        version, _ = key
        try:
            chosen = [one for one in map(self._chosen, batches) if len(one.answers)]
            columns = reduce(Columns.holding, chosen, self._columns.get(version, Columns({}, {})))
            records = [columns.record(batch, self._model) for batch in chosen]
        except Exception as error:
            if len(batches) > 1:  # one that cannot be written takes no other with it
                for batch in batches:
                    self._write(key, [batch])
                return
            self._unfit.fails(type(error).__name__)  # its message may have values in it
            self._count("dropped", len(batches[0].answers))
            return
        if records:
            self._columns[version] = columns
            record = pa.concat_batches(records)
            written = self._journals.append(version, batches[0].time.astimezone(UTC), record)
            self._count("logged" if written else "dropped", record.num_rows)


def _draw(request: str) -> float:
    """Return a number from 0 to 1 that is the same for a request wherever it is drawn."""
    return int.from_bytes(hashlib.blake2b(request.encode("utf-8", "replace"), digest_size=8).digest()) / 2**64


def _picked(cells: Any, rows: np.ndarray) -> Any:  # noqa: ANN401 - an array or a list
    if rows.all():
        return cells
    return cells[rows] if isinstance(cells, np.ndarray) else list(compress(cells, rows))


def _wider(known: pa.DataType, cells: Any) -> pa.DataType:  # noqa: ANN401
    """Return the type of a column that holds what it held, and these cells."""
    kind = _kind(cells)
    if known in (kind, NULL) or kind == NULL:
        return known if kind == NULL else kind
    return NUMBER if {known, kind} == {INTEGER, NUMBER} else TEXT


def _kind(cells: Any) -> pa.DataType:  # noqa: ANN401
    if _is_plain(cells):
        return PLAIN[cells.dtype.kind]
    cells = _listed(cells)
    types = set(map(type, cells)) - MISSING
    if types and types <= {int, float}:
        whole = [cell for cell in cells if type(cell) is int]
        if whole and (min(whole) < -(2**63) or max(whole) >= 2**63):
            return TEXT
        return NUMBER if float in types else INTEGER
    return (BOOLEAN if types == {bool} else TEXT) if types else NULL


def _array(cells: Any, kind: pa.DataType) -> pa.Array:  # noqa: ANN401
    if kind == TEXT:
        return pa.array([one if type(one) is str and one.isascii() else _text(one) for one in _listed(cells)], TEXT)
    if kind == NUMBER and _is_plain(cells):
        cells = cells.astype(np.float64, copy=False)
    elif kind == NUMBER:
        cells = [float(cell) if type(cell) is int else cell for cell in _listed(cells)]
    return pa.array(cells if _is_plain(cells) else _listed(cells), kind, from_pandas=True)


def _struct(cells: dict[str, Any], kinds: dict[str, pa.DataType], rows: int) -> pa.StructArray | None:
    columns = [_array(cells[name], kind) if name in cells else pa.nulls(rows, kind) for name, kind in kinds.items()]
    return pa.StructArray.from_arrays(columns, list(kinds)) if kinds else None


def _is_plain(cells: Any) -> bool:  # noqa: ANN401
    return isinstance(cells, np.ndarray) and cells.ndim == 1 and cells.dtype.kind in PLAIN


def _listed(cells: Any) -> list[Any]:  # noqa: ANN401
    """Return cells as a list of Python's own numbers, as far as they are numbers."""
    if isinstance(cells, np.ndarray):
        if cells.dtype.kind in "mM":
            cells = cells.astype(f"{cells.dtype.kind}8[us]")  # Python has no nanoseconds
        cells = cells.tolist()
    if any(issubclass(one, np.generic) for one in set(map(type, cells))):
        return [one.item() if isinstance(one, np.generic) and one.dtype.kind in "biuf" else one for one in cells]
    return list(cells)


def _text(cell: Any) -> str | None:  # noqa: ANN401 - whatever a client sends
    """Return text as it is, and JSON of anything else, without the quotes if it is nothing but text."""
    if not isinstance(cell, str):
        if pd.api.types.is_scalar(cell) and pd.isna(cell):
            return None
        try:
            made = json.dumps(cell) if isinstance(cell, int | float) else orjson.dumps(cell, _simple, OPTIONS).decode()
        except TypeError:  # it has whole numbers of more than 64 bits, or half characters
            made = json.dumps(cell, default=_simple)
        cell = json.loads(made) if made.startswith('"') else made
    return str(cell) if cell.isascii() else cell.encode("utf-8", "backslashreplace").decode()


def _simple(value: Any) -> Any:  # noqa: ANN401
    """Return what JSON has instead of a value that it has not."""
    return value.tolist() if isinstance(value, np.ndarray) else str(value)
