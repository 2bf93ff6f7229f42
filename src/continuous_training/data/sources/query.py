"""Rows of an SQL query on the warehouse: `data.query` in training.yaml.

The query is in DuckDB's dialect. DuckDB runs it as it is; for all other warehouses sqlglot translates it, and Ibis
fetches its rows.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import duckdb

from continuous_training.data import warehouse
from continuous_training.data.driver_errors import first_line, to_user_error
from continuous_training.data.duckdb_connection import literal
from continuous_training.data.sources.base import Source, describe_range, read_table
from continuous_training.data.sources.duckdb_source import EVER, DuckDBSource
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from datetime import datetime

    import ibis.expr.datatypes as dt
    import pyarrow as pa
    from ibis.backends import BaseBackend
    from ibis.expr.types import Table

    from continuous_training.settings import Settings

DIALECT = "duckdb"


class DuckDBQuery(DuckDBSource):
    """A query on a DuckDB file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, query: str, time: str) -> None:
        super().__init__(connection, time)
        self.query = query

    def statement(self, since: datetime, until: datetime) -> str:
        """Bind the query."""
        return bind_window(self.query, since, until)


class ServerQuery(Source):
    """A query on a warehouse server, through Ibis."""

    def __init__(self, backend: BaseBackend, query: str, time: str) -> None:
        self.backend = backend
        self.query = query
        self.time = time

    def read(self, since: datetime, until: datetime) -> pa.RecordBatchReader:
        """Fetch the rows of a window in batches."""
        return read_table(self.table(since, until))

    def table(self, since: datetime, until: datetime) -> Table:
        """Return the rows of a window as a table of the warehouse.

        Types that only some warehouses have become texts, and decimals of unknown width the nearest doubles.
        """
        statement = bind_window(self.query, since, until)
        try:
            table = self.backend.sql(statement, dialect=DIALECT)
            return table.cast({name: new for name, kind in table.schema().items() if (new := _portable_type(kind))})
        except Exception as error:
            raise to_user_error("the warehouse rejects the query", error) from error

    def describe_extent(self) -> str:
        """Describe the time that the rows cover."""
        table = self.table(*EVER)
        times = table[self.time]
        [extent] = read_table(table.aggregate(oldest=times.min(), newest=times.max())).read_all().to_pylist()
        return describe_range(extent["oldest"], extent["newest"])

    def close(self) -> None:
        """Close the connection."""
        self.backend.disconnect()


def open_query(settings: Settings, query: str) -> Source:
    """Open the warehouse for reading the rows of a query: DuckDB directly, all others through Ibis.

    Raises:
        ConnectionLostError: the warehouse does not respond, or rejects the user: some drivers do not distinguish these.
        UserError: the address is wrong, or the driver is not installed.
    """
    time = settings.data.time
    if settings.warehouse_url.startswith(f"{warehouse.DUCKDB}://"):
        return DuckDBQuery(warehouse.open_duckdb(settings), query, time)
    return ServerQuery(warehouse.connect(settings), query, time)


def bind_window(query: str, since: datetime, until: datetime) -> str:
    """Replace $since and $until in a query by moments in UTC, without a zone.

    Raises:
        UserError: the query is not one SELECT statement, or has other placeholders, or not these.
    """
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise UserError(f"data.query in training.yaml is not SQL: {first_line(error)}") from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise UserError("data.query in training.yaml must be one SELECT statement")
    moments = {"since": since, "until": until}
    names = {name.lower() for name in statements[0].named_parameters}
    if unknown := sorted(names - moments.keys()):
        raise UserError(f"data.query has the placeholder ${unknown[0]}; only $since and $until are bound")
    if missing := sorted(moments.keys() - names):
        raise UserError(f"data.query never uses ${missing[0]}: without it AS_OF cannot limit the data")
    text = statements[0].query.encode()  # the tokens' places are counted in bytes
    tokens = [place for place, _ in duckdb.tokenize(statements[0].query)]
    for place, name_place in reversed([*pairwise(tokens)]):
        if text[place : place + 1] == b"$" and name_place == place + 1:
            name = next(name for name in moments if text[name_place:].lower().startswith(name.encode()))
            text = text[:place] + literal(moments[name]).encode() + text[name_place + len(name) :]
    return text.decode()


def _portable_type(kind: dt.DataType) -> str | None:
    """Return the type to cast a column to, if the Parquet files of all warehouses do not share its own."""
    if kind.is_decimal() and kind.precision is None:
        return "float64"
    return "string" if kind.is_unknown() or kind.is_uuid() or kind.is_json() or kind.is_inet() else None
