"""Snapshots: immutable Parquet files of rows, and the hash of what they hold."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from continuous_training.data import warehouse
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from continuous_training.settings import Data

EXACT = 2**53  # up to here each whole number is a double


def read_snapshot(path: Path, data: Data) -> pd.DataFrame:
    """Read one file of a snapshot, its rows in the order of their key: the same on every machine.

    Raises:
        UserError: the file is gone.
    """
    if not path.exists():
        raise UserError(f"the snapshot {path} is gone: run scripts/ct snapshot again")
    frame: pd.DataFrame = pq.read_table(path).to_pandas()
    return frame.sort_values([name for name in data.key if name in frame], ignore_index=True, kind="stable")


def content_hash(path: Path) -> str:
    """Hash the rows of a Parquet file: the same for the same rows, in whatever order, files or types of number.

    A row is the text of its columns in the order of their names; the hash covers the columns' names, the number of
    rows, and the exclusive or and the sums of the rows' MD5 (the sums notice a row that is there twice).
    """
    schema = pq.read_schema(path)
    columns = sorted(schema.names)
    texts = ", ".join(
        f"COALESCE(CAST({_canonical(name, schema.field(name).type)} AS VARCHAR), '∅')" for name in columns
    )
    row = f"concat_ws(chr(31), {texts})"
    # a shared connection would answer from its cache of a file of the same name
    with duckdb.connect(config={**warehouse.SPARING}) as connection:
        table = connection.read_parquet(str(path))
        found = table.aggregate(
            f"count(*), bit_xor(md5_number({row})), sum(md5_number_upper({row})), sum(md5_number_lower({row}))"
        ).fetchone()
    return hashlib.sha256(repr((columns, found)).encode()).hexdigest()


def _canonical(name: str, kind: pa.DataType) -> str:
    """Return what stands for a value: one text for each, whatever the types that warehouses have for it."""
    quoted = '"' + name.replace('"', '""') + '"'
    if pa.types.is_timestamp(kind):
        return f"epoch_us({quoted})"
    double = f"(CAST({quoted} AS DOUBLE) + 0.0)"  # -0.0 is 0.0
    if pa.types.is_floating(kind):
        return double
    if is_whole(kind) or pa.types.is_decimal(kind):
        small = f"{quoted} BETWEEN -{EXACT} AND {EXACT}"
        return f"CASE WHEN {small} THEN CAST({double} AS VARCHAR) ELSE CAST({quoted} AS VARCHAR) END"
    if pa.types.is_string(kind):  # what this text of columns has a meaning for is written otherwise in a value
        return f"replace(replace(replace({quoted}, '\\', '\\\\'), chr(31), '\\31'), '∅', '\\0')"
    return quoted


def is_whole(kind: pa.DataType) -> bool:
    """Whether an Arrow type holds whole numbers."""
    return bool(pa.types.is_integer(kind))
