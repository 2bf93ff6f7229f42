"""Connections to DuckDB: for a warehouse's file, and for files that DuckDB reads."""

from __future__ import annotations

from datetime import datetime

import duckdb

SETTINGS: dict[str, str | int] = {"memory_limit": "128MB", "threads": 4}  # DuckDB would cache all that it reads


def connect(path: str = ":memory:", options: dict[str, str] | None = None) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file for reading only, or a database in memory, with sessions in UTC.

    Args:
        path: the file.
        options: DuckDB's settings in addition to, or in place of, `SETTINGS`.
    """
    in_memory = path == ":memory:"
    connection = duckdb.connect(path, read_only=not in_memory)
    settings = {**SETTINGS, "TimeZone": "UTC", "python_enable_replacements": "false", **(options or {})}
    try:
        for name, value in settings.items():
            connection.execute(f"SET {quote(name)} = {literal(str(value))}")
    except BaseException:
        connection.close()
        raise
    return connection


def quote(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | datetime) -> str:
    """Return a text or a moment as an SQL literal."""
    if isinstance(value, datetime):
        return f"CAST('{value.isoformat(sep=' ')}' AS TIMESTAMP)"
    return "'" + value.replace("'", "''") + "'"
