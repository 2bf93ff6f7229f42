"""Journals: answers on this machine's disk from the moment they are given until they lie whole where the log is kept.

<state>/<model>/2013-04-01T120000-v3-5f0c….journal           an Arrow IPC stream, locked by the process that writes it
<address>/<model>/date=2013-04-01/120000-v3-5f0c….parquet    what becomes of it

A journal that nobody has locked is finished, or its writer is dead: whoever gets its lock moves it, which is to write
all its whole record batches as one Parquet file, and only then to remove it. The journal names the file, so a move that
was cut short between the two and is made again gives the same file, and no row twice.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
import uuid
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date, datetime

log = logging.getLogger(__name__)

SUFFIX = ".journal"
DUE_BYTES = 2**26  # in one journal
MOST_BYTES = 2**30  # in all journals of a model, which wait when the log's address cannot be reached
LOOK_SECONDS = 60.0  # between two looks for what dead processes have left, when nothing else calls for one
RETRY_SECONDS = 1.0  # after the first move that failed; each further pause is twice as long
PATIENCE_SECONDS = 60.0  # the longest of these pauses


class Journal:
    """The rows of one model version and one schema that this process is writing; nobody else moves them meanwhile.

    Raises:
        UserError: too much waits already.
        OSError: the disk does not take it.
    """

    def __init__(self, folder: Path, version: str, first: datetime, schema: pa.Schema) -> None:
        if _size(folder) >= MOST_BYTES:
            raise UserError(f"{folder} holds {MOST_BYTES:,} bytes that wait to be moved, and takes no more")
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{first:%Y-%m-%dT%H%M%S}-v{version}-{uuid.uuid4().hex[:12]}{SUFFIX}"
        self.schema = schema
        self.rows = self.bytes = 0
        self._began = time.monotonic()
        begun = self.path.with_suffix(".begun")
        self._file = begun.open("ab", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        begun.rename(self.path)  # only now, when it is locked, others look at it

    def append(self, batch: pa.RecordBatch) -> None:
        """Write a record batch; from then on it outlives this process.

        Raises:
            OSError: the disk does not take it; the journal is good for further batches nevertheless.
        """
        self._file.truncate(self.bytes)  # the torn end that a write which failed has left
        head = b"" if self.bytes else self.schema.serialize().to_pybytes()
        message = memoryview(head + batch.serialize().to_pybytes())
        written = 0
        while written < len(message):
            written += self._file.write(message[written:])
        self.bytes += written
        self.rows += batch.num_rows

    def is_due(self, seconds: float, rows: int) -> bool:
        """Say whether it is that old or has that many rows, or as many bytes as a mover should take into memory."""
        return time.monotonic() - self._began >= seconds or self.rows >= rows or self.bytes >= DUE_BYTES

    def finish(self) -> None:
        """Let go of it, so that it is moved."""
        with suppress(OSError):  # which tells of nothing that append has not told
            self._file.close()


class Folder:
    """A folder of this machine, or one that is mounted here."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, name: str, content: pa.Buffer) -> None:
        """Write it under a name that no reader looks for, to the disk itself, and rename it."""
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        try:
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
        for folder in (path.parent, path.parent.parent, self._path):  # whose entries a power failure may take too
            opened = os.open(folder, os.O_RDONLY)
            os.fsync(opened)
            os.close(opened)


class Bucket:
    """An S3 bucket. Credentials and region are found as boto3 finds them."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def put(self, name: str, content: pa.Buffer) -> None:
        """Write it as one object, which S3 shows when it has the whole of it."""
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=content.to_pybytes())

    def fetch(self, below: str, wanted: Callable[[str], bool], folder: Path) -> list[Path]:
        """Write the objects below a name whose rest of the name is wanted to a folder, and return their paths."""
        start = self._prefix + below
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start)
        fetched = []
        for key in [one["Key"] for page in pages for one in page.get("Contents", ())]:
            name = key.removeprefix(start)
            if wanted(name):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                self._client.download_file(self._bucket, key, str(path))
                fetched.append(path)
        return fetched

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 makes its clients' classes at run time
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=3,
            read_timeout=20,
            retries={"mode": "standard", "total_max_attempts": 2},  # the mover tries again by itself
            s3={"addressing_style": "path"},
        )
        return boto3.Session().client("s3", config=config)


def place(address: str) -> Folder | Bucket:
    """Find out what kind of place an address names.

    Raises:
        UserError: it names none.
    """
    kind, separator, rest = address.partition("://")
    if address and not separator:
        return Folder(Path(address))
    bucket, _, prefix = rest.partition("/")
    if kind != "s3" or not bucket:
        raise UserError(f"the predictions log cannot be kept at «{address}»: name a folder, or s3://bucket/prefix")
    return Bucket(bucket, prefix.strip("/"))


class Trouble:
    """Says once that something begins to fail, and once that it works again, however often it is tried meanwhile."""

    def __init__(self, failing: str, working: str) -> None:
        self._failing = failing
        self._working = working
        self._is_failing = False

    def fails(self, why: object) -> None:
        """Tell that it has failed."""
        if not self._is_failing:
            log.warning("%s: %s", self._failing, (str(why).strip() or type(why).__name__).splitlines()[0])
        self._is_failing = True

    def works(self) -> None:
        """Tell that it has worked."""
        if self._is_failing:
            log.info("%s", self._working)
        self._is_failing = False


class Mover:
    """A thread that moves the journals in a folder which nobody writes any more; what cannot be moved waits."""

    def __init__(self, folder: Path, place: Folder | Bucket, model: str) -> None:
        self.folder = folder
        self._place = place
        self._model = model
        self._trouble = Trouble(f"Predictions wait in {folder}", "Predictions are moved again")
        self._called = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="predictions-mover", daemon=True)

    def start(self) -> None:
        """Begin, with what dead processes have left."""
        self._thread.start()

    def call(self) -> None:
        """Tell that there is something to move."""
        self._called.set()

    def stop(self, seconds: float) -> None:
        """Move what there is and end; what that leaves undone after so many seconds, the next process does."""
        self._stop.set()
        self._called.set()
        self._thread.join(seconds)

    def move(self) -> None:
        """Move every journal whose lock is free. Raises whatever the place or the disk raises, at the first such."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if file := _take(path):
                with file:
                    if (rows := _whole(path, file.read())) is not None:
                        made = pa.BufferOutputStream()
                        pa.parquet.write_table(rows, made, compression="zstd")
                        self._place.put(f"{self._model}/{_moved(path)}", made.getvalue())
                    path.unlink()

    def _watch(self) -> None:
        pause = RETRY_SECONDS
        while True:
            self._called.clear()
            last = self._stop.is_set()  # what was finished before, the look that follows finds
            try:
                self.move()
            except Exception as error:
                self._trouble.fails(error)
                waiting, wait = self._stop, pause
                pause = min(2 * pause, PATIENCE_SECONDS)
            else:
                self._trouble.works()
                waiting, wait, pause = self._called, LOOK_SECONDS, RETRY_SECONDS
            if last:
                return
            waiting.wait(wait)


class Journals:
    """Those that this process is writing, one for each version and day."""

    def __init__(self, mover: Mover, seconds: float, rows: int) -> None:
        self._mover = mover
        self._limits = seconds, rows
        self._open: dict[tuple[str, date], Journal] = {}
        self._troubles: dict[str, Trouble] = {}

    def append(self, version: str, first: datetime, batch: pa.RecordBatch) -> bool:
        """Write rows of one version and day; False if that cannot be done now."""
        key, what = (version, first.date()), f"Predictions of version {version} are"
        trouble = self._troubles.setdefault(version, Trouble(f"{what} dropped", f"{what} logged again"))
        try:
            if key in self._open and self._open[key].schema != batch.schema:
                self._open.pop(key).finish()
                self._mover.call()
            if key not in self._open:
                self._open[key] = Journal(self._mover.folder, version, first, batch.schema)
            self._open[key].append(batch)
        except (OSError, UserError) as error:
            trouble.fails(error)
            return False
        trouble.works()
        return True

    def finish(self, *, all_of_them: bool) -> None:
        """Have them moved that are due, or all."""
        for key, journal in list(self._open.items()):
            if all_of_them or journal.is_due(*self._limits):
                self._open.pop(key).finish()
                self._mover.call()


def waiting(folder: Path) -> dict[str, pa.Table]:
    """Return the rows of each journal that is not moved yet, by the name that its file will have.

    Its writer may be at it: what it has not written to its end is left out.
    """
    found = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with suppress(FileNotFoundError):  # it was moved meanwhile
            if (rows := _whole(path, path.read_bytes())) is not None:
                found[_moved(path)] = rows
    return found


def _moved(journal: Path) -> str:
    """Return the name of the file that becomes of a journal, below the model's folder."""
    day, _, rest = journal.stem.partition("T")
    return f"date={day}/{rest}.parquet"


def _take(path: Path) -> BinaryIO | None:
    """Open a journal and lock it, until it is closed; None if its writer lives, or somebody else moves it."""
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
    file.close()  # it was moved between the two
    return None


def _whole(path: Path, content: bytes) -> pa.Table | None:
    """Return the rows of a journal as a table, without a batch that its writer did not live to finish."""
    batches = []
    try:
        for batch in pa.ipc.open_stream(content):
            batch.validate(full=True)
            batches.append(batch)
    except (pa.ArrowException, OSError):
        log.info("%s was not written to its end: %d whole batches are moved", path, len(batches))
    return pa.Table.from_batches(batches) if batches else None


def _size(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):  # it was moved meanwhile
            total += path.stat().st_size
    return total
