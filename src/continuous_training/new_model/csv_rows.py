"""CSV files as typed rows for `ct new`: parsed once, as a run parses them, into a temporary Parquet file.

A column has the first type that all of its texts have. DuckDB's detection is not used: it renames columns, accepts
dates in formats that a run does not, and takes the texts yes and no for a boolean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from continuous_training.data import duckdb_connection
from continuous_training.data.duckdb_connection import literal, quote
from continuous_training.data.sources import csv_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import IO

    import duckdb

AT_ONCE = 100  # columns in one statement
ROW_GROUP_VALUES = 4_000_000
TYPES = {  # how many texts of a column have the type, and their value
    "boolean": ("count_if(lower({text}) IN ('true', 'false'))", "CAST({text} AS BOOLEAN)"),
    "integer": (
        "count(CASE WHEN regexp_full_match({text}, '\\s*[+-]?[0-9]+\\s*') THEN TRY_CAST({text} AS BIGINT) END)",
        "CAST({text} AS BIGINT)",
    ),
    "number": ("count(TRY_CAST({text} AS DOUBLE))", "CAST({text} AS DOUBLE)"),
    "timestamp": (
        "count(CASE WHEN regexp_matches({text}, '^\\s*[0-9]') THEN TRY_CAST({text} AS TIMESTAMPTZ) END)",
        "CAST(CAST({text} AS TIMESTAMPTZ) AS TIMESTAMP)",
    ),
}


def build_relation(
    connection: duckdb.DuckDBPyConnection, files: Sequence[str], open_file: Callable[[str], IO[bytes]], folder: Path
) -> str:
    """Parse the files into a Parquet file in a folder; return the SQL for its rows with the columns' types.

    Raises:
        UserError: a file has no header, or one with columns of the same name.
        OSError, duckdb.Error: a file cannot be read.
    """
    texts = csv_files.build_relation(files, open_file, {})
    names = connection.sql(f"FROM {texts}").columns
    duckdb_connection.widen(connection, len(names))
    path = folder / "rows.parquet"
    # Arrow's writer: DuckDB's holds a dictionary of a megabyte for each column of texts
    reader = connection.execute(f"FROM {texts}").to_arrow_reader(max(1, ROW_GROUP_VALUES // len(names)))
    with pq.ParquetWriter(path, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    rows = f"read_parquet({literal(str(path))})"
    columns = [f"{expression} AS {quote(name)}" for name, expression in _typed(connection, rows, names)]
    return f"(SELECT {', '.join(columns)} FROM {rows})"  # noqa: S608 - quoted names


def _typed(connection: duckdb.DuckDBPyConnection, rows: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the SQL expression of each column's values."""
    typed = []
    for first in range(0, len(names), AT_ONCE):
        batch = names[first : first + AT_ONCE]
        counts = [
            f"[count({quote(name)}), {', '.join(count.format(text=quote(name)) for count, _ in TYPES.values())}]"
            for name in batch
        ]
        [row] = connection.execute(f"SELECT {', '.join(counts)} FROM {rows}").fetchall()  # noqa: S608 - quoted names
        for name, (total, *sizes) in zip(batch, row, strict=True):
            values = [value for size, (_, value) in zip(sizes, TYPES.values(), strict=True) if size == total > 0]
            typed.append((name, values[0].format(text=quote(name)) if values else quote(name)))
    return typed
