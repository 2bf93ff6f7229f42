"""Snapshot: the rows of this run, as immutable Parquet files with a content hash.

The files lie in .ct/snapshots/<hash>/ and are never changed: the same rows are the same folder, whatever warehouse they
are from.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from continuous_training import progress
from continuous_training.data import warehouse
from continuous_training.data.snapshots import content_hash, is_whole
from continuous_training.documents import Run, Snapshot, SnapshotFile, Stopwatch
from continuous_training.errors import UserError
from continuous_training.settings import STATE, time_windows

if TYPE_CHECKING:
    from pathlib import Path

    from continuous_training.settings import Data, Settings

log = logging.getLogger(__name__)

TYPES = {
    "category": (pa.string(), pa.types.is_string),
    "number": (pa.float64(), lambda kind: pa.types.is_floating(kind) or is_whole(kind) or pa.types.is_decimal(kind)),
    "integer": (pa.int64(), lambda kind: is_whole(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)),
    "boolean": (pa.bool_(), pa.types.is_boolean),
    "timestamp": (pa.timestamp("us"), lambda kind: pa.types.is_timestamp(kind) or pa.types.is_date(kind)),
}
PAUSES = (1, 5, 25)  # seconds before a warehouse that went away is asked again


def take_snapshot(run: Run, settings: Settings, timer: Stopwatch) -> Snapshot:
    """Run the query for this run's windows and keep what it returns.

    Raises:
        UserError: the warehouse or the query fails, there are no rows, or no row trains, or none judges.
    """
    data = settings.data
    since, fresh_since, until = time_windows(data, run.as_of)
    folder = STATE / "snapshots" / ".unfinished"
    try:
        _fetch(settings, since, fresh_since, until, folder)
        counts = {name: pq.read_metadata(folder / name).num_rows for name in ("train.parquet", "fresh.parquet")}
        total = sum(counts.values())
        if not total:
            raise UserError(_nothing(settings, run.as_of, since, until))
        if not counts["train.parquet"]:
            before = f"before {fresh_since:%Y-%m-%d}, to train on"
            raise UserError(f"AS_OF={run.as_of:%Y-%m-%d}: of {total:,} rows there are none {before}")
        if not counts["fresh.parquet"]:
            raise UserError(f"AS_OF={run.as_of:%Y-%m-%d}: of {total:,} rows there are none to judge by")
        newest = _newest(folder / "fresh.parquet", data.time)
        if newest is None:
            raise UserError(
                f"the time column «{data.time}» is null in all {counts['fresh.parquet']:,} rows to judge by"
            )
        hashes = {name: content_hash(folder / name) for name in counts}
        whole = hashlib.sha256("".join(hashes.values()).encode()).hexdigest()
        kept = _keep(folder, STATE / "snapshots" / whole[:16])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    train, fresh = (
        SnapshotFile(path=kept / name, sha256=hashes[name], rows=counts[name])
        for name in ("train.parquet", "fresh.parquet")
    )
    schema = pq.read_schema(fresh.path)
    return Snapshot(
        **timer.stop(),
        hash=whole,
        train=train,
        fresh=fresh,
        since=since,
        fresh_since=fresh_since,
        until=until,
        newest=newest,
        columns={name: str(schema.field(name).type) for name in schema.names},
    )


def _fetch(settings: Settings, since: datetime, fresh_since: datetime, until: datetime, folder: Path) -> None:
    """Ask the warehouse, and write what it answers; should it go away meanwhile, ask for all rows anew, a few times."""
    pauses, answered = iter(PAUSES), False
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            source = warehouse.connect(settings)
            answered = True
            table = warehouse.rows(source, settings.data.query, since, until)
            if settings.data.time not in table.columns or not table[settings.data.time].type().is_temporal():
                raise UserError(
                    f"the query does not return its time column «{settings.data.time}» as a date or a timestamp"
                )
            _write(warehouse.stream(table), settings.data, fresh_since, folder)
        except warehouse.ConnectionLostError as problem:
            pause = next(pauses, None)
            if pause is None or not answered:
                raise
            log.warning("%s; in %s s all rows are asked for anew", problem, pause)
            time.sleep(pause)
        else:
            source.disconnect()  # what comes now takes long, and memory
            return


def _write(batches: pa.RecordBatchReader, data: Data, fresh_since: datetime, folder: Path) -> None:
    """Write the batches to train.parquet and fresh.parquet, in the types that training.yaml declares."""
    schema = pa.schema([(field.name, _declared(field, data)) for field in batches.schema])
    boundary = pa.scalar(fresh_since, type=schema.field(data.time).type)
    with (
        pq.ParquetWriter(folder / "train.parquet", schema) as train,
        pq.ParquetWriter(folder / "fresh.parquet", schema) as fresh,
        progress.bar("rows from the warehouse") as advance,
    ):
        for batch in batches:
            rows = pa.table([_as(field, batch.column(field.name)) for field in schema], schema=schema)
            # A row without a time is kept where the data check will find it.
            is_fresh = pc.fill_null(pc.greater_equal(rows[data.time], boundary), fill_value=True)
            fresh.write_table(rows.filter(is_fresh))
            train.write_table(rows.filter(pc.invert(is_fresh)))
            advance(rows.num_rows)


def _declared(field: pa.Field, data: Data) -> pa.DataType:
    """Return the declared type where it fits what came; else what came, for the data check to refuse."""
    column = data.columns.get(field.name)
    if column is None:
        return field.type
    wanted, fits = TYPES[column.type]
    return wanted if fits(field.type) else field.type


def _as(field: pa.Field, values: pa.Array) -> pa.Array:
    """Return values in the type of a field, and blanks as nulls: numbers as the nearest double, times in UTC."""
    if pa.types.is_decimal(values.type) and pa.types.is_floating(field.type):
        values = values.cast(pa.string())  # the direct way has the last digit wrong in some
    try:
        values = pc.cast(
            values, options=pc.CastOptions(field.type, allow_time_truncate=True, allow_float_truncate=True)
        )
    except pa.ArrowInvalid as error:
        raise UserError(f"the column «{field.name}» does not fit its type in training.yaml: {error}") from error
    if pa.types.is_floating(field.type):
        return pc.if_else(pc.is_nan(values), pa.scalar(None, field.type), values)
    return values


def _keep(folder: Path, final: Path) -> Path:
    """Move a finished snapshot to its place; a snapshot that is there already is the same one."""
    try:
        folder.rename(final)
    except OSError:
        if not final.is_dir():
            raise
    return final


def _newest(path: Path, column: str) -> datetime | None:
    newest: datetime | None = pc.max(pq.read_table(path, columns=[column])[column]).as_py()
    return newest


def _nothing(settings: Settings, moment: datetime, since: datetime, until: datetime) -> str:
    """Say why there are no rows: AS_OF lies before the data, long after it, or there is no data."""
    window = f"the query returned no rows from {since:%Y-%m-%d} to {until:%Y-%m-%d}"
    source = warehouse.connect(settings)
    everything = warehouse.rows(source, settings.data.query, datetime(1700, 1, 1), datetime(2200, 1, 1))
    times = everything[settings.data.time]
    found = everything.aggregate(oldest=times.min(), newest=times.max()).to_pyarrow().to_pylist()[0]
    if found["oldest"] is None:
        return f"{window}, nor at any other time"
    extent = f"its data runs from {found['oldest']:%Y-%m-%d} to {found['newest']:%Y-%m-%d}"
    return f"AS_OF={moment:%Y-%m-%d}: {window}; {extent}"
