"""Connections to DuckDB: for a warehouse's file, and for files that DuckDB reads."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMORY = 128  # MB: DuckDB would cache all that it reads
MEMORY_PER_COLUMN = 0.5  # MB: each thread has a vector of every column in several steps of a statement
MEMORY_PER_ROW = 5e-5  # MB: a group of each row, such as that of its key; what needs more than the limit is on the disk
MAX_MEMORY_OF_ROWS = 1500  # MB
MANY_COLUMNS = 250  # from here on a single thread, which needs a fraction of the memory and is as fast


def settings_for(columns: int = 0, rows: int = 0) -> dict[str, str | int]:
    """Return DuckDB's settings for statements that read so many columns at once and group or sort so many rows."""
    memory = round(MEMORY + MEMORY_PER_COLUMN * columns + min(MEMORY_PER_ROW * rows, MAX_MEMORY_OF_ROWS))
    return {"memory_limit": f"{memory}MB", "threads": 4 if columns < MANY_COLUMNS else 1}


def connect(
    path: str = ":memory:", options: dict[str, str] | None = None, columns: int = 0, rows: int = 0
) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file for reading only, or a database in memory, with sessions in UTC.

    Args:
        path: the file.
        options: DuckDB's settings in addition to, or in place of, those of `settings_for`.
        columns: the number of columns that statements read at once.
        rows: the number of rows that they group or sort.
    """
    in_memory = path == ":memory:"
    connection = duckdb.connect(path, read_only=not in_memory)
    fixed = {"TimeZone": "UTC", "python_enable_replacements": "false"}
    try:
        _apply(connection, {**settings_for(columns, rows), **fixed, **(options or {})})
    except BaseException:
        connection.close()
        raise
    return connection


def widen(connection: duckdb.DuckDBPyConnection, columns: int) -> None:
    """Adapt a connection to statements of so many columns, unless its address has set a limit of the memory."""
    statement = f"SELECT current_setting('memory_limit') = format_bytes({MEMORY * 1_000_000})"
    if connection.execute(statement).fetchall() == [(True,)]:
        _apply(connection, settings_for(columns))


def _apply(connection: duckdb.DuckDBPyConnection, settings: Mapping[str, str | int]) -> None:
    for name, value in settings.items():
        connection.execute(f"SET {quote(name)} = {literal(str(value))}")


def quote(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | datetime) -> str:
    """Return a text or a moment as an SQL literal."""
    if isinstance(value, datetime):
        return f"CAST('{value.isoformat(sep=' ')}' AS TIMESTAMP)"
    return "'" + value.replace("'", "''") + "'"
