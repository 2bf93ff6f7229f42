"""The predictions log: inputs and predictions as Parquet files by day, for the monitor.

    SELECT inputs.x, answers[2] FROM read_parquet('<storage>/<model>/**/*.parquet', union_by_name=true)

Each worker process has one log. A request only puts its rows into a queue, which a thread writes a few times a second
to a journal on the local disk (`journal`). So predictions that are more than a second old outlive the process, however
it ends; a power failure may lose those that are not moved to the storage yet. If the disk does not accept rows, they
are dropped and counted, and the server continues.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from datetime import UTC
from functools import reduce
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from continuous_training.errors import UserError
from continuous_training.serving.predictions_log.columns import Columns, PredictionBatch
from continuous_training.serving.predictions_log.failure_log import FailureLog
from continuous_training.serving.predictions_log.journal import JournalMover, OpenJournals
from continuous_training.serving.predictions_log.storage import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from pathlib import Path

FLUSH_SECONDS = 0.2  # between two writes of the queue to the journals
MAX_QUEUE_ROWS = 50_000
CLOSE_SECONDS = 10.0


class PredictionsLog:
    """The log of one worker process."""

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
        """Create a log without starting it.

        Args:
            address: its storage, a folder or s3://bucket/prefix.
            model: the registered model.
            state: the local folder of the journals.
            share: the share of the requests that is logged, all rows of a request or none; every worker and role makes
                the same choice.
            redacted: inputs and keys that are not logged.
            rotate_seconds: the age at which a journal is moved to the storage.
            rotate_rows: the number of rows at which it is.
            count: is called with "logged" or "dropped" and a number of rows, from any thread.

        Raises:
            UserError: the address or the share is invalid.
        """
        if not 0 <= share <= 1:
            raise UserError(f"the share of requests in the predictions log must be from 0 to 1, not {share}")
        self._model = model
        self._share = share
        self._redacted = redacted
        self._count = count
        self._mover = JournalMover(state / model, open_storage(address), model)
        self._journals = OpenJournals(self._mover, rotate_seconds, rotate_rows)
        self._queue_lock = threading.Lock()
        self._queue: list[PredictionBatch] = []
        self._queue_rows = 0
        self._closed = False
        self._columns: dict[str, Columns] = {}
        self._failure_log = FailureLog("Cannot convert predictions for the log, they are dropped", "")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="predictions", daemon=True)

    def start(self) -> None:
        """Start to write, and to move the journals of dead workers."""
        self._thread.start()
        self._mover.start()

    def append(self, batch: PredictionBatch) -> None:
        """Put a batch into the queue without waiting for the disk; if the queue is full, the batch is dropped."""
        rows = len(batch.predictions)
        with self._queue_lock:
            accepted = not self._closed and (not self._queue or self._queue_rows + rows <= MAX_QUEUE_ROWS)
            if accepted:
                self._queue.append(batch)
                self._queue_rows += rows
        if not accepted:
            self._count("dropped", rows)

    def close(self) -> None:
        """Write the queue and move the journals; what cannot be moved in time, the next worker moves."""
        with self._queue_lock:
            self._closed = True
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)
            self._mover.stop(CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self._write_queue()
            self._journals.finish_due()
        self._write_queue()
        self._journals.finish_all()

    def _write_queue(self) -> None:
        with self._queue_lock:
            queue, self._queue, self._queue_rows = self._queue, [], 0
        groups: dict[tuple[str, date], list[PredictionBatch]] = {}
        for batch in queue:
            groups.setdefault((batch.version, batch.time.astimezone(UTC).date()), []).append(batch)
        for (version, _), batches in groups.items():
            self._write(version, batches)

    def _write(self, version: str, batches: list[PredictionBatch]) -> None:
        """Write batches of one version and day to its journal, or count them as dropped."""
        try:
            samples = [sample for sample in map(self._sample, batches) if len(sample.predictions)]
            columns = reduce(Columns.widen, samples, self._columns.get(version, Columns({}, {})))
            record_batches = [columns.to_record_batch(sample, self._model) for sample in samples]
        except Exception as error:
            if len(batches) > 1:  # a batch that cannot be converted must not affect the others
                for batch in batches:
                    self._write(version, [batch])
                return
            self._failure_log.report_failure(type(error).__name__)  # the error's message may contain values
            self._count("dropped", len(batches[0].predictions))
            return
        if record_batches:
            self._columns[version] = columns
            record_batch = pa.concat_batches(record_batches)
            written = self._journals.append(version, batches[0].time.astimezone(UTC), record_batch)
            self._count("logged" if written else "dropped", record_batch.num_rows)

    def _sample(self, batch: PredictionBatch) -> PredictionBatch:
        """Return the part of a batch that is logged: the share of requests, without redacted columns."""
        selected = [self._share == 1 or _hash_to_share(request_id) < self._share for request_id, _ in batch.requests]
        rows = np.repeat(selected, [len(indices) for _, indices in batch.requests])

        def select(columns: dict[str, Any]) -> dict[str, Any]:
            return {name: _select(values, rows) for name, values in columns.items() if name not in self._redacted}

        return replace(
            batch,
            requests=list(compress(batch.requests, selected)),
            inputs=select(batch.inputs),
            keys=select(batch.keys),
            predictions=_select(batch.predictions, rows),
        )


def _hash_to_share(request_id: str) -> float:
    """Return a number from 0 to 1 that is the same for a request in every process."""
    return int.from_bytes(hashlib.blake2b(request_id.encode("utf-8", "replace"), digest_size=8).digest()) / 2**64


def _select(values: Any, rows: np.ndarray) -> Any:  # noqa: ANN401 - an array or a list
    if rows.all():
        return values
    return values[rows] if isinstance(values, np.ndarray) else list(compress(values, rows))
