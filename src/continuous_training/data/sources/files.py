"""Rows of Parquet or CSV files, read by DuckDB: `data.source` in training.yaml is a file, a folder or a pattern.

Only the columns that training.yaml declares are read. Columns are matched by name across the files, and CSV values are
parsed as the declared types.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

from continuous_training.data import duckdb_connection
from continuous_training.data.driver_errors import first_line
from continuous_training.data.duckdb_connection import literal, quote
from continuous_training.data.sources import csv_files
from continuous_training.data.sources.base import check_columns
from continuous_training.data.sources.duckdb_source import DuckDBSource
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    import duckdb

    from continuous_training.settings import Data

FORMATS = {  # how each kind of file is read, by the ends of its names
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
}
BASE_URL = "CT_DATA_URL"  # environment variable: the folder, or the s3:// prefix, of relative addresses
S3 = "s3://"
WILDCARDS = "*?["
INCOMPLETE = ("magic bytes", "footer", "too small to be a Parquet file", "Expected Number of Columns")


class FileSource(DuckDBSource):
    """Rows of files."""

    subject = "data.source"

    def __init__(self, address: str, data: Data) -> None:
        """List the files and read the names and types of their columns.

        Raises:
            UserError: there are no such files, or they cannot be read.
        """
        super().__init__(duckdb_connection.connect(), data.time)
        self.address = resolve(address)
        try:
            self._relation = self._open(data)
        except BaseException:
            self.close()
            raise

    def statement(self, since: datetime, until: datetime) -> str:
        """Select the rows of a window."""
        columns = ", ".join(quote(name) for name in self._columns)
        time = quote(self.time)
        kind = self._columns[self.time]
        first, end = (f"CAST({literal(moment)} AS {kind})" for moment in (since, until))
        return f"SELECT {columns} FROM {self._relation} WHERE {time} >= {first} AND {time} < {end}"  # noqa: S608

    def _open(self, data: Data) -> str:
        """Return the SQL that reads the files, and set the types of the columns that are read."""
        try:
            relation = self._build_relation(data)
            rows = self.connection.sql(f"FROM {relation}")
            types = dict(zip(rows.columns, map(str, rows.types), strict=True))
            schema = rows.limit(0).to_arrow_table().schema
        except UserError:
            raise
        except Exception as error:  # DuckDB's, or those of a filesystem
            raise self._failure(error) from error
        check_columns(schema, self.time)
        self._columns = {name: types[name] for name in data.columns if name in types}
        return relation

    def _build_relation(self, data: Data) -> str:
        """List the files, and return the SQL for all of their rows."""
        files, open_file = open_files(self.connection, self.address)
        if is_csv(files):
            return csv_files.build_relation(files, open_file, data.columns, data.time)
        self._check_time(files)
        return parquet_relation(files)

    def _check_time(self, files: list[str]) -> None:
        """Check that no Parquet file lacks the time column that others have: its rows would be left out silently."""
        paths = f"[{', '.join(map(literal, files))}]"
        has_time = f"bool_or(name = {literal(self.time)})"
        statement = f"SELECT file_name, {has_time} FROM parquet_schema({paths}) GROUP BY file_name ORDER BY file_name"  # noqa: S608
        by_file = dict(self.connection.execute(statement).fetchall())
        without = [file for file, has_column in by_file.items() if not has_column]
        if without and len(without) < len(by_file):
            raise UserError(f"data.source {without[0]} has no time column '{self.time}', which other files have")

    def _failure(self, error: Exception) -> UserError:
        """Return the error for files that cannot be read."""
        return to_user_error(self.address, error)


def open_files(connection: duckdb.DuckDBPyConnection, address: str) -> tuple[list[str], Callable[[str], IO[bytes]]]:
    """Return the data files that an address names, and a function that opens one; `connection` can read them then.

    Raises:
        UserError: there are none, they are of several formats, or may not be listed.
    """
    if not address.startswith(S3):
        return select_files(list_files(address), address), _open_local
    from continuous_training.data.sources import s3

    filesystem = s3.connect()
    connection.register_filesystem(filesystem)
    return select_files(s3.list_files(filesystem, address), address), filesystem.open


def is_csv(paths: list[str]) -> bool:
    """Whether files are CSV; otherwise they are Parquet."""
    return paths[0].endswith(FORMATS["csv"])


def parquet_relation(paths: list[str]) -> str:
    """Return the SQL for all rows of Parquet files, whose columns are matched by name."""
    return f"read_parquet([{', '.join(map(literal, paths))}], union_by_name = true)"


def to_user_error(address: str, error: Exception) -> UserError:
    """Return the error for files that cannot be read."""
    message = csv_files.describe_error(str(error)) or first_line(error)
    incomplete = any(hint in message for hint in INCOMPLETE)
    question = " (is the file still being written?)" if incomplete else ""
    return UserError(f"the files of data.source {address} cannot be read: {message}{question}")


def resolve(address: str) -> str:
    """Return the address of files; a relative one is below CT_DATA_URL, or below the working directory."""
    base = os.environ.get(BASE_URL)
    if not base or address.startswith((S3, "/")):
        return address
    return f"{base.rstrip('/')}/{address}"


def resolve_base() -> str:
    """Return CT_DATA_URL, or the working directory, as an address that is valid in any working directory."""
    base = os.environ.get(BASE_URL, "")
    return base if base.startswith(S3) else str(Path(base).absolute())


def list_files(address: str) -> list[str]:
    """Return the files of this machine that an address names.

    Raises:
        UserError: there is no such file or folder, or it may not be read.
    """
    path = Path(address)
    try:
        if path.is_dir():
            _check_access(path)
            return sorted(str(file) for file in path.rglob("*") if file.is_file())
        if path.is_file():
            return [address]
        if any(character in address for character in WILDCARDS):
            return sorted(file for file in glob.glob(address, recursive=True) if os.path.isfile(file))  # noqa: PTH113, PTH207
    except OSError as error:
        raise UserError(f"data.source {address} cannot be read: {error.strerror}") from error
    raise UserError(f"data.source: there is no file or folder {address}")


def select_files(paths: Iterable[str], address: str) -> list[str]:
    """Return the data files among paths, of one format; hidden files, and those that begin with _, are skipped.

    Raises:
        UserError: there are none, or they are of several formats.
    """
    inside = len(address) if not any(character in address for character in WILDCARDS) else 0
    visible = [path for path in paths if not any(part.startswith((".", "_")) for part in Path(path[inside:]).parts)]
    by_format = {
        name: files for name, ends in FORMATS.items() if (files := [path for path in visible if path.endswith(ends)])
    }
    if not by_format:
        ends = ", ".join(end for ends in FORMATS.values() for end in ends)
        raise UserError(f"data.source {address} has no data files; their names must end with one of {ends}")
    if len(by_format) > 1:
        raise UserError(f"data.source {address} has files of several formats, {' and '.join(by_format)}: name one")
    return next(iter(by_format.values()))


def _open_local(path: str) -> IO[bytes]:
    return Path(path).open("rb")


def _check_access(folder: Path) -> None:
    """Raise PermissionError where `rglob` would skip a folder silently."""
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        next(path.iterdir(), None)
