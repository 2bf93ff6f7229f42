"""Where a new model's rows come from: files, or a table or a query of a warehouse."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import duckdb

from continuous_training.data import duckdb_connection, warehouse
from continuous_training.data.driver_errors import to_user_error
from continuous_training.data.duckdb_connection import quote
from continuous_training.data.sources import files
from continuous_training.data.sources.duckdb_source import EVER
from continuous_training.data.sources.query import bind_window
from continuous_training.errors import UsageError, UserError
from continuous_training.new_model import csv_rows
from continuous_training.new_model.work_folder import work_folder
from continuous_training.urls import without_password

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibis.expr.types import Table

DEFAULT_WAREHOUSE = "duckdb://.ct/warehouse.duckdb"
WAREHOUSE_URL = "CT_WAREHOUSE_URL"


class Address(NamedTuple):
    """Where the rows are: exactly one of `files`, `table` and `query` is set."""

    files: str | None = None
    table: str | None = None
    query: str | None = None
    warehouse: str | None = None  # None: CT_WAREHOUSE_URL, or the default


class Origin(NamedTuple):
    """An open address: its rows as a lazy table, and how training.yaml refers to them."""

    rows: Table
    title: str  # for messages
    settings: dict[str, str]  # keys of training.yaml: warehouse, or data.source
    relation: str | None  # what a query selects from; None for files, which need no query
    is_query_bound: bool = False  # whether `relation` is a whole query with $since and $until


@contextmanager
def open_origin(address: Address) -> Iterator[Origin]:
    """Open an address for reading.

    Raises:
        UsageError: the address is not one, or contradicts the environment.
        UserError: there is no such table or file, or it cannot be read.
    """
    if address.files is not None:
        with _open_files(address.files) as origin:
            yield origin
    else:
        with _open_warehouse(address) as origin:
            yield origin


@contextmanager
def _open_files(option: str) -> Iterator[Origin]:
    import ibis

    address = files.resolve(option)
    connection = duckdb_connection.connect()
    try:
        with work_folder() as folder:
            paths, open_file = files.open_files(connection, address)
            before = _sizes(paths)
            relation = (
                csv_rows.build_relation(connection, paths, open_file, folder)
                if files.is_csv(paths)
                else files.parquet_relation(paths)
            )
            duckdb_connection.widen(connection, len(connection.sql(f"FROM {relation}").columns))
            # A view, so that Ibis does not parse the types of thousands of columns for each query
            connection.execute(f"CREATE TEMP VIEW source_rows AS FROM {relation}")
            yield Origin(ibis.duckdb.from_connection(connection).table("source_rows"), option, {"source": option}, None)
            if _sizes(paths) != before:
                raise UserError(f"{option} was changed while it was read: is it still being written?")
    except (duckdb.Error, OSError) as error:
        raise files.to_user_error(address, error) from error
    finally:
        connection.close()


def _sizes(paths: list[str]) -> list[tuple[int, int]]:
    """Return size and time of the last change of each file of this machine."""
    statuses = [Path(path).stat() for path in paths if not path.startswith(files.S3)]
    return [(status.st_size, status.st_mtime_ns) for status in statuses]


@contextmanager
def _open_warehouse(address: Address) -> Iterator[Origin]:
    url = _warehouse_url(address.warehouse)
    keys = {} if WAREHOUSE_URL in os.environ else {"warehouse": url}
    backend = warehouse.connect_to(url)
    try:
        if address.table is not None:
            relation = ".".join(map(_identifier, re.findall(r'"[^"]+"|[^.]+', address.table)))
            yield Origin(
                backend.sql(f"SELECT * FROM {relation}", dialect="duckdb"),  # noqa: S608 - quoted
                f"the table {address.table}",
                keys,
                relation,
            )
        else:
            query = (address.query or "").strip().rstrip(";")
            is_bound = "$since" in query or "$until" in query
            statement = bind_window(query, *EVER) if is_bound else query
            relation = query if is_bound else f"(\n{query}\n) AS source_rows"
            yield Origin(backend.sql(statement, dialect="duckdb"), "the query", keys, relation, is_bound)
    except UserError:
        raise
    except Exception as error:
        raise to_user_error(f"{without_password(url.partition('?')[0])} cannot be read", error) from error
    finally:
        backend.disconnect()


def _warehouse_url(option: str | None) -> str:
    """Return the warehouse's address.

    Raises:
        UsageError: it contains a password, or the environment names another one.
    """
    variable = os.environ.get(WAREHOUSE_URL)
    if option and variable and option != variable:
        raise UsageError(f"{WAREHOUSE_URL} is set, and overrides --warehouse: unset one of the two")
    if option and without_password(option) != option:
        raise UsageError(
            f"--warehouse would be written to training.yaml: set {WAREHOUSE_URL} to an address with a password"
        )
    return variable or option or DEFAULT_WAREHOUSE


def _identifier(name: str) -> str:
    """Quote a name where SQL requires it; a simple one stays as it is, so that each warehouse folds its case."""
    return name if is_simple(name) or name.startswith('"') else quote(name)


def is_simple(name: str) -> bool:
    """Whether a name can be written in SQL without quotes."""
    return name.isascii() and name.isidentifier() and name == name.lower() and name not in _reserved_words()


def _reserved_words() -> set[str]:
    rows = duckdb.sql("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'").fetchall()
    return {name for (name,) in rows}
