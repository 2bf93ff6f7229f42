"""Journals: predictions on the local disk, until they are moved to the log's storage as a complete Parquet file.

<state>/<model>/2013-04-01T120000-v3-5f0c….journal           an Arrow IPC stream, locked by the process that writes it
<storage>/<model>/date=2013-04-01/120000-v3-5f0c….parquet    the file that it becomes

A journal without a lock is finished, or its writer is dead. The process that then gets the lock moves the journal: it
writes all complete record batches to one Parquet file, and removes the journal only afterwards. The name of the file is
derived from the journal's. So if a move is interrupted between the two steps and repeated, it writes the same file
again, and no row appears twice.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.parquet

from continuous_training.errors import UserError
from continuous_training.serving.predictions_log.failure_log import FailureLog

if TYPE_CHECKING:
    from datetime import date, datetime
    from pathlib import Path

    from continuous_training.serving.predictions_log.storage import BucketStorage, FolderStorage

log = logging.getLogger(__name__)

SUFFIX = ".journal"
ROTATE_BYTES = 2**26  # the size at which a journal is finished
MAX_BYTES = 2**30  # of all journals of a model, which stay here while the storage is unavailable
SCAN_SECONDS = 60.0  # between two scans for journals of dead processes, if no journal is finished before
RETRY_SECONDS = 1.0  # the pause after the first failed move; each further pause is twice as long
MAX_RETRY_SECONDS = 60.0


class Journal:
    """The rows of one model version and one schema that this process is writing, protected from other processes.

    Raises:
        UserError: the journals of this model are too large already.
        OSError: the file cannot be written.
    """

    def __init__(self, folder: Path, version: str, first: datetime, schema: pa.Schema) -> None:
        if _total_bytes(folder) >= MAX_BYTES:
            raise UserError(f"{folder} has {MAX_BYTES:,} bytes of journals that could not be moved yet")
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{first:%Y-%m-%dT%H%M%S}-v{version}-{uuid.uuid4().hex[:12]}{SUFFIX}"
        self.schema = schema
        self.rows = self.bytes = 0
        self._start = time.monotonic()
        temporary = self.path.with_suffix(".begun")
        self._file = temporary.open("ab", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        temporary.rename(self.path)  # other processes see it from here on, when it is locked

    def append(self, batch: pa.RecordBatch) -> None:
        """Write a record batch, which then outlives this process.

        Raises:
            OSError: it cannot be written; the journal stays valid for further batches.
        """
        self._file.truncate(self.bytes)  # remove the incomplete end of a write that failed
        header = b"" if self.bytes else self.schema.serialize().to_pybytes()
        message = memoryview(header + batch.serialize().to_pybytes())
        written = 0
        while written < len(message):
            written += self._file.write(message[written:])
        self.bytes += written
        self.rows += batch.num_rows

    def is_due(self, seconds: float, rows: int) -> bool:
        """Return whether it should be finished: by its age, its rows, or its size, as a move reads it into memory."""
        return time.monotonic() - self._start >= seconds or self.rows >= rows or self.bytes >= ROTATE_BYTES

    def finish(self) -> None:
        """Release its lock, so that it is moved."""
        with suppress(OSError):  # append has reported it already
            self._file.close()


class JournalMover:
    """A thread that moves the finished journals of a folder; what cannot be moved stays."""

    def __init__(self, folder: Path, storage: FolderStorage | BucketStorage, model: str) -> None:
        self.folder = folder
        self._storage = storage
        self._model = model
        self._failure_log = FailureLog(
            f"Cannot move predictions to their storage, they stay in {folder}", "Predictions are moved again"
        )
        self._notified = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="predictions-mover", daemon=True)

    def start(self) -> None:
        """Start with the journals of dead processes."""
        self._thread.start()

    def notify(self) -> None:
        """Report that a journal is finished."""
        self._notified.set()

    def stop(self, seconds: float) -> None:
        """Move all finished journals and end; what is left after so many seconds, the next process moves."""
        self._stop.set()
        self._notified.set()
        self._thread.join(seconds)

    def move_journals(self) -> None:
        """Move every journal that is not locked. Raises the first error of the storage or the disk."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if file := _lock(path):
                with file:
                    if (rows := _read_batches(path, file.read())) is not None:
                        buffer = pa.BufferOutputStream()
                        pa.parquet.write_table(rows, buffer, compression="zstd")
                        self._storage.write(f"{self._model}/{_parquet_name(path)}", buffer.getvalue())
                    path.unlink()

    def _run(self) -> None:
        pause = RETRY_SECONDS
        while True:
            self._notified.clear()
            last = self._stop.is_set()  # the scan below sees all that was finished before
            try:
                self.move_journals()
            except Exception as error:
                self._failure_log.report_failure(error)
                event, seconds = self._stop, pause
                pause = min(2 * pause, MAX_RETRY_SECONDS)
            else:
                self._failure_log.report_success()
                event, seconds, pause = self._notified, SCAN_SECONDS, RETRY_SECONDS
            if last:
                return
            event.wait(seconds)


class OpenJournals:
    """The journals that this process is writing: one for each version and day."""

    def __init__(self, mover: JournalMover, rotate_seconds: float, rotate_rows: int) -> None:
        self._mover = mover
        self._limits = rotate_seconds, rotate_rows
        self._journals: dict[tuple[str, date], Journal] = {}
        self._failure_logs: dict[str, FailureLog] = {}

    def append(self, version: str, first: datetime, batch: pa.RecordBatch) -> bool:
        """Write rows of one version and day; return whether that succeeded."""
        key, subject = (version, first.date()), f"predictions of version {version}"
        failure_log = self._failure_logs.setdefault(
            version, FailureLog(f"Cannot log {subject}, they are dropped", f"The {subject} are logged again")
        )
        try:
            if key in self._journals and self._journals[key].schema != batch.schema:
                self._journals.pop(key).finish()
                self._mover.notify()
            if key not in self._journals:
                self._journals[key] = Journal(self._mover.folder, version, first, batch.schema)
            self._journals[key].append(batch)
        except (OSError, UserError) as error:
            failure_log.report_failure(error)
            return False
        failure_log.report_success()
        return True

    def finish_due(self) -> None:
        """Finish the journals that are due, so that they are moved."""
        self._finish([key for key, journal in self._journals.items() if journal.is_due(*self._limits)])

    def finish_all(self) -> None:
        """Finish all journals, so that they are moved."""
        self._finish(list(self._journals))

    def _finish(self, keys: list[tuple[str, date]]) -> None:
        for key in keys:
            self._journals.pop(key).finish()
            self._mover.notify()


def read_pending_journals(folder: Path) -> dict[str, pa.Table]:
    """Return the rows of each journal that is not moved yet, by the name that its Parquet file will have.

    A journal may be written meanwhile: its incomplete end is left out.
    """
    tables = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with suppress(FileNotFoundError):  # it was moved meanwhile
            if (rows := _read_batches(path, path.read_bytes())) is not None:
                tables[_parquet_name(path)] = rows
    return tables


def _parquet_name(journal: Path) -> str:
    """Return the name of a journal's Parquet file below the model's folder."""
    day, _, rest = journal.stem.partition("T")
    return f"date={day}/{rest}.parquet"


def _lock(path: Path) -> BinaryIO | None:
    """Open a journal and lock it until it is closed; None if another process writes or moves it."""
    try:
        file = path.open("rb")
    except (FileNotFoundError, PermissionError):
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    if path.exists():
        return file
    file.close()  # it was moved between open and lock
    return None


def _read_batches(path: Path, content: bytes) -> pa.Table | None:
    """Return the complete record batches of a journal as a table, or None if there are none."""
    batches = []
    try:
        for batch in pa.ipc.open_stream(content):
            batch.validate(full=True)
            batches.append(batch)
    except (pa.ArrowException, OSError):
        log.info("%s has an incomplete end, which is ignored: %d batches are complete", path, len(batches))
    return pa.Table.from_batches(batches) if batches else None


def _total_bytes(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):  # it was moved meanwhile
            total += path.stat().st_size
    return total
