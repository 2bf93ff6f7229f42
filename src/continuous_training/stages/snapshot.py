"""Snapshot: the rows of this run, as immutable Parquet files with a content hash.

The files are in .ct/snapshots/<hash>/ and are never changed: the same rows are the same folder, whatever their source.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from continuous_training import progress
from continuous_training.comparison.fresh_days import choose_fresh_days
from continuous_training.data import sources
from continuous_training.data.driver_errors import ConnectionLostError
from continuous_training.data.snapshots import ARROW_TYPES, FRESH, TRAIN, content_hash
from continuous_training.data.sources.base import check_columns
from continuous_training.documents import Run, Snapshot, SnapshotFile, Stopwatch
from continuous_training.errors import UserError
from continuous_training.settings import STATE, time_windows

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from continuous_training.documents import Look
    from continuous_training.settings import Data, Settings

log = logging.getLogger(__name__)

CONVERTIBLE = {  # whether an Arrow type is converted to that of a type of training.yaml
    "category": pa.types.is_string,
    "number": lambda kind: pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind),
    "integer": lambda kind: pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0),
    "boolean": pa.types.is_boolean,
    "timestamp": lambda kind: pa.types.is_timestamp(kind) or pa.types.is_date(kind),
}
RETRY_SECONDS = (1, 5, 25)  # pauses before the attempts that follow a lost connection
ROW_GROUP_VALUES = 4_000_000  # values in memory before a row group is written: small groups make wide files huge


def take_snapshot(run: Run, settings: Settings, timer: Stopwatch) -> Snapshot:
    """Fetch the rows of this run's windows and store them.

    Raises:
        UserError: the source fails, or there are no training rows or no fresh rows.
    """
    data = settings.data
    length = choose_fresh_days(settings, lambda: _find_looks(run), run.as_of - timedelta(days=data.label_delay_days))
    if length.reason:
        log.info("The fresh rows are those of %s days: %s", length.days, length.reason)
    since, fresh_since, until = time_windows(data, run.as_of, length.days)
    unfinished = STATE / "snapshots" / ".unfinished"
    try:
        without_target = _fetch(settings, since, fresh_since, until, unfinished)
        if without_target:
            log.info("%s rows are left out: their target is null", f"{without_target:,}")
        counts = {name: pq.read_metadata(unfinished / name).num_rows for name in (TRAIN, FRESH)}
        if without_target and not any(counts.values()):
            targets = " or ".join(f"'{name}'" for name in data.targets)
            raise UserError(f"the target {targets} is null in all {without_target:,} rows")
        _check_counts(counts, settings, run.as_of, (since, fresh_since, until))
        newest = _newest(unfinished / FRESH, data.time)
        if newest is None:
            raise UserError(f"the time column '{data.time}' is null in all {counts[FRESH]:,} fresh rows")
        hashes = {name: content_hash(unfinished / name) for name in counts}
        snapshot_hash = hashlib.sha256("".join(hashes.values()).encode()).hexdigest()
        folder = _publish(unfinished, STATE / "snapshots" / snapshot_hash[:16])
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    train, fresh = (SnapshotFile(path=folder / name, sha256=hashes[name], rows=counts[name]) for name in (TRAIN, FRESH))
    schema = pq.read_schema(fresh.path)
    return Snapshot(
        **timer.stop(),
        hash=snapshot_hash,
        train=train,
        fresh=fresh,
        since=since,
        fresh_since=fresh_since,
        until=until,
        newest=newest,
        columns={name: str(schema.field(name).type) for name in schema.names},
        without_target=without_target,
        fresh_days_reason=length.reason,
    )


def _find_looks(run: Run) -> list[Look]:
    """Return the past comparisons of the model."""
    from continuous_training.registry import connection, looks  # MLflow takes a second to import

    return looks.find(connection.open_client(), run.model)


def _fetch(settings: Settings, since: datetime, fresh_since: datetime, until: datetime, folder: Path) -> int:
    """Write the source's rows to a folder; when the connection is lost, start again a few times.

    Returns:
        The number of rows that were left out because a target is null.
    """
    pauses, has_connected = iter(RETRY_SECONDS), False
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            with sources.open_source(settings) as source:  # closed before the hashes, which take time and memory
                has_connected = True
                return _write(source.read(since, until), settings.data, fresh_since, folder)
        except ConnectionLostError as error:
            pause = next(pauses, None)
            if pause is None or not has_connected:
                raise
            log.warning("%s; all rows are fetched again in %s s", error, pause)
            time.sleep(pause)


def _write(batches: pa.RecordBatchReader, data: Data, fresh_since: datetime, folder: Path) -> int:
    """Write the rows to two Parquet files, before and after a moment, in the types of training.yaml.

    Returns:
        The number of rows that were left out because a target is null.
    """
    check_columns(batches.schema, data.time)
    schema = pa.schema([(field.name, _target_type(field, data)) for field in batches.schema])
    boundary = pa.scalar(fresh_since, type=schema.field(data.time).type)
    targets = [name for name in data.targets if name in schema.names] if data.null_target == "drop" else []
    without_target = 0
    with (
        _PartWriter(folder / TRAIN, schema) as train,
        _PartWriter(folder / FRESH, schema) as fresh,
        progress.bar("rows from the warehouse") as advance,
    ):
        for batch in batches:
            rows = pa.table([_convert(field, batch.column(field.name)) for field in schema], schema=schema)
            if targets:
                rows = rows.filter(reduce(pc.and_, [pc.is_valid(rows[name]) for name in targets]))
                without_target += batch.num_rows - rows.num_rows
            # A row without a time goes to the part in which the data check finds it.
            is_fresh = pc.fill_null(pc.greater_equal(rows[data.time], boundary), fill_value=True)
            fresh.write(rows.filter(is_fresh))
            train.write(rows.filter(pc.invert(is_fresh)))
            advance(batch.num_rows)
    return without_target


class _PartWriter:
    """Writes a Parquet file in row groups of about `ROW_GROUP_VALUES`."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema)
        self._columns = len(schema)
        self._tables: list[pa.Table] = []
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        self._tables.append(table)
        self._rows += table.num_rows
        if self._rows * self._columns >= ROW_GROUP_VALUES:
            self._flush()

    def _flush(self) -> None:
        if self._tables:
            self._writer.write_table(pa.concat_tables(self._tables))
        self._tables, self._rows = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


def _target_type(field: pa.Field, data: Data) -> pa.DataType:
    """Return the declared type if the column can have it; otherwise its own, which the data check then reports."""
    column = data.columns.get(field.name)
    if column is None:
        return field.type
    if CONVERTIBLE[column.type](field.type) or pa.types.is_null(field.type):
        return ARROW_TYPES[column.type]
    return field.type


def _convert(field: pa.Field, values: pa.Array) -> pa.Array:
    """Convert values to a field's type: numbers to the nearest double, times to UTC, NaN to null."""
    if pa.types.is_decimal(values.type) and pa.types.is_floating(field.type):
        values = values.cast(pa.string())  # the direct cast gets the last digit of some values wrong
    try:
        options = pc.CastOptions(field.type, allow_time_truncate=True, allow_float_truncate=True)
        values = pc.cast(values, options=options)
    except pa.ArrowInvalid as error:
        raise UserError(f"the column '{field.name}' does not fit its type in training.yaml: {error}") from error
    if pa.types.is_floating(field.type):
        return pc.if_else(pc.is_nan(values), pa.scalar(None, field.type), values)
    return values


def _publish(folder: Path, final: Path) -> Path:
    """Rename a complete snapshot to its final name; one that is already there has the same rows."""
    try:
        folder.rename(final)
    except OSError:
        if not final.is_dir():
            raise
    return final


def _newest(path: Path, column: str) -> datetime | None:
    newest: datetime | None = pc.max(pq.read_table(path, columns=[column])[column]).as_py()
    return newest


def _check_counts(
    counts: dict[str, int], settings: Settings, as_of: datetime, windows: tuple[datetime, datetime, datetime]
) -> None:
    """Check that there are training rows and fresh rows.

    Raises:
        UserError: there are none; the message has the time range of the source.
    """
    since, fresh_since, until = windows
    total = sum(counts.values())
    if not total:
        with sources.open_source(settings) as source:
            extent = source.describe_extent()
        raise UserError(
            f"AS_OF={as_of:%Y-%m-%d}: there are no rows from {since:%Y-%m-%d} to {until:%Y-%m-%d}; {extent}"
        )
    if not counts[TRAIN]:
        raise UserError(
            f"AS_OF={as_of:%Y-%m-%d}: no training rows: all {total:,} rows are after {fresh_since:%Y-%m-%d}"
        )
    if not counts[FRESH]:
        raise UserError(f"AS_OF={as_of:%Y-%m-%d}: no fresh rows: all {total:,} rows are before {fresh_since:%Y-%m-%d}")
