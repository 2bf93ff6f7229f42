"""CSV files for DuckDB: the header names the columns, training.yaml declares their types.

DuckDB's detection of the format is not used: for a file with an incomplete line it detects another format, with other
columns. Fields are separated by the character that is most frequent in the header, and quoted with ". Empty fields are
nulls.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from typing import IO, TYPE_CHECKING

from continuous_training.data.duckdb_connection import literal
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from continuous_training.settings import Column

TYPES = {
    "category": "VARCHAR",
    "number": "DOUBLE",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMPTZ",  # a time without an offset is in UTC; TIMESTAMP would ignore offsets
}
DELIMITERS = ",;\t|"
REASON = re.compile(r"^(Expected Number|Error when|Value with|Invalid unicode).*", re.MULTILINE)
FILE = re.compile(r"^\s*file = ?(.+)$", re.MULTILINE)


def build_relation(
    files: Sequence[str], open_file: Callable[[str], IO[bytes]], columns: Mapping[str, Column], time: str | None = None
) -> str:
    """Return the SQL for all rows of CSV files, whose columns may be in different orders.

    Args:
        files: their paths.
        open_file: opens one of them.
        columns: the declared columns, by their names; all others are texts.
        time: the column that every file must have: rows without a time would be left out silently.

    Raises:
        UserError: a file has no header, a column without a name, two of the same name, or no time column.
        OSError: a file cannot be read.
    """
    headers = {file: read_header(file, open_file) for file in files}
    _check_capitals({file: names for file, (_, names) in headers.items()})
    if len(files) > 1 and time is not None:
        _check_time({file: names for file, (_, names) in headers.items()}, time)
    by_header: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for file, header in headers.items():
        by_header.setdefault(header, []).append(file)
    parts = []
    for (delimiter, names), group in by_header.items():
        types = {name: TYPES[columns[name].type] if name in columns else "VARCHAR" for name in names}
        fields = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
        options = f"delim = {literal(delimiter)}, quote = '\"', escape = '\"', columns = {{{fields}}}"
        paths = ", ".join(map(literal, group))
        parts.append(f"SELECT * FROM read_csv([{paths}], auto_detect = false, header = true, {options})")  # noqa: S608
    return f"({' UNION ALL BY NAME '.join(parts)})"


def read_header(file: str, open_file: Callable[[str], IO[bytes]]) -> tuple[str, tuple[str, ...]]:
    """Return a file's delimiter and the names of its columns.

    Raises:
        UserError: it has no header, a column without a name, or two columns of the same name.
        OSError: it cannot be read.
    """
    with open_file(file) as raw:
        content = gzip.GzipFile(fileobj=raw) if file.endswith(".gz") else raw
        text = io.TextIOWrapper(content, encoding="utf-8-sig", newline="")
        try:
            first = text.readline()
            delimiter = max(DELIMITERS, key=first.count)
            names = next(csv.reader([first, *_rest_of_header(first, text)], delimiter=delimiter), [])
        except UnicodeDecodeError as error:
            raise UserError(f"data.source {file} is not in UTF-8: {error}") from error
        except (EOFError, gzip.BadGzipFile, csv.Error, zlib.error) as error:
            raise UserError(f"data.source {file} has no readable header: {error}") from error
    if not any(names):
        raise UserError(f"data.source {file} is empty: a CSV file begins with a header")
    if "" in names:
        place = names.index("") + 1
        raise UserError(
            f"data.source {file}: column {place} of {len(names)} has no name: name it, or leave it out (pandas writes "
            "its index so, without index=False)"
        )
    if duplicate := next((name for name, count in Counter(names).items() if count > 1), None):
        raise UserError(f"data.source {file} has two columns '{duplicate}': rename one")
    return delimiter, tuple(names)


def _check_capitals(headers: Mapping[str, tuple[str, ...]]) -> None:
    """Check that no two columns of the files differ in capitals only: DuckDB would take them for one."""
    seen: dict[str, tuple[str, str]] = {}
    for file, names in headers.items():
        for name in names:
            other, other_file = seen.setdefault(name.lower(), (name, file))
            if other != name:
                where = f"{file} has" if file == other_file else f"{other_file} and {file} have"
                raise UserError(
                    f"data.source: {where} two columns whose names differ in capitals only, '{other}' and '{name}': "
                    "rename one"
                )


def _check_time(headers: Mapping[str, tuple[str, ...]], time: str) -> None:
    """Check that either all files or none have the time column; the caller reports the latter."""
    without = [file for file, names in headers.items() if time not in names]
    if without and len(without) < len(headers):
        raise UserError(f"data.source {without[0]} has no time column '{time}', which other files have")


def describe_error(message: str) -> str | None:
    """Return a DuckDB error about a line of a CSV file in one line: the file, the line and the reason."""
    line = re.search(r"CSV Error on Line: (\d+)", message)
    if line is None:
        return None
    reason, file = REASON.search(message), FILE.search(message)
    where = f"{file[1].strip()}, line {line[1]}" if file else f"line {line[1]}"
    return f"{where}: {reason[0] if reason else message.splitlines()[0]}"


def _rest_of_header(first: str, text: io.TextIOWrapper) -> list[str]:
    """Return the lines that belong to a header with line breaks in quoted names."""
    lines: list[str] = []
    while (first + "".join(lines)).count('"') % 2 and (line := text.readline()):
        lines.append(line)
    return lines
