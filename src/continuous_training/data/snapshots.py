"""Snapshots: immutable Parquet files of rows, and the hash of their content."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from continuous_training.data.duckdb_connection import literal, quote, settings_for
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from continuous_training.settings import Data

TRAIN, FRESH = "train.parquet", "fresh.parquet"
ARROW_TYPES = {  # of the types of training.yaml
    "category": pa.string(),
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us"),
}
EXACT = 2**53  # up to here every integer has a double of the same value


def read_snapshot(path: Path, data: Data) -> pd.DataFrame:
    """Read one file of a snapshot, its rows sorted by their key: the same order on every machine.

    Integer and boolean columns that may have nulls become doubles, whether this file has nulls or not: the model gets
    the same type from every snapshot, and NaN for null.

    Raises:
        UserError: the file does not exist.
    """
    check_exists(path)
    frame = to_frame(pq.read_table(path), data)
    return frame.sort_values([name for name in data.key if name in frame], ignore_index=True, kind="stable")


def check_exists(path: Path) -> None:
    """Check that a file of a snapshot exists.

    Raises:
        UserError: it does not.
    """
    if not path.exists():
        raise UserError(f"the snapshot {path} does not exist any more: run scripts/ct snapshot again")


def to_frame(table: pa.Table, data: Data) -> pd.DataFrame:
    """Return rows of a snapshot as a frame, in the types that `read_snapshot` describes."""
    for place, name in enumerate(table.schema.names):
        column = data.columns.get(name)
        if column and column.feature and column.becomes_double:
            table = table.set_column(place, name, table[name].cast(pa.float64(), safe=False))
    frame: pd.DataFrame = table.to_pandas()
    return frame


def nullable_columns(path: Path) -> set[str]:
    """Return the columns of a snapshot's file that have nulls, from its metadata."""
    metadata = pq.read_metadata(path)
    names = metadata.schema.to_arrow_schema().names
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return {name for place, name in enumerate(names) if any(_has_nulls(group.column(place)) for group in groups)}


def _has_nulls(chunk: pq.ColumnChunkMetaData) -> bool:
    return not chunk.is_stats_set or not chunk.statistics.has_null_count or chunk.statistics.null_count > 0


def content_hash(path: Path) -> str:
    """Hash the rows of a Parquet file: equal for equal rows, whatever their order, files or widths of numbers.

    A row is hashed as the text of its columns in the order of their names. The result covers the columns' names, the
    number of rows, and the exclusive or and the sums of the rows' MD5 hashes; the sums detect rows that occur twice.
    """
    schema = pq.read_schema(path)
    columns = sorted(schema.names)
    texts = ", ".join(
        f"COALESCE(CAST({_canonical(name, schema.field(name).type)} AS VARCHAR), '∅')" for name in columns
    )
    sums = "count(*), bit_xor(md5_number(row)), sum(md5_number_upper(row)), sum(md5_number_lower(row))"
    rows = f"SELECT concat_ws(chr(31), {texts}) AS row FROM read_parquet({literal(str(path))})"  # noqa: S608 - quoted names
    # A shared connection would read from its cache of another file with the same name.
    with duckdb.connect(config={**settings_for(len(columns))}) as connection:
        # One statement: each step of a relation would bind all columns again
        values = connection.execute(f"SELECT {sums} FROM ({rows})").fetchone()  # noqa: S608
    return hashlib.sha256(repr((columns, values)).encode()).hexdigest()


def _canonical(name: str, kind: pa.DataType) -> str:
    """Return an SQL expression with one text for each value, whichever type a warehouse has for it."""
    column = quote(name)
    if pa.types.is_timestamp(kind):
        return f"epoch_us({column})"
    double = f"(CAST({column} AS DOUBLE) + 0.0)"  # -0.0 becomes 0.0
    if pa.types.is_floating(kind):
        return double
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        exact = f"{column} BETWEEN -{EXACT} AND {EXACT}"
        return f"CASE WHEN {exact} THEN CAST({double} AS VARCHAR) ELSE CAST({column} AS VARCHAR) END"
    if pa.types.is_string(kind):  # escapes the characters that have a meaning in the text of a row
        return f"replace(replace(replace({column}, '\\', '\\\\'), chr(31), '\\31'), '∅', '\\0')"
    return column
