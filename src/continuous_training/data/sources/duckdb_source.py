"""Sources that DuckDB reads directly: no other library is imported to fetch their rows."""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from continuous_training.data import duckdb_connection
from continuous_training.data.driver_errors import first_line
from continuous_training.data.duckdb_connection import quote
from continuous_training.data.sources.base import Source, batch_rows, describe_range
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibis.expr.types import Table

TEXT_TYPES = {"uuid", "enum"}  # read as text: no type that the Parquet files of all warehouses share
EVER = (datetime(1700, 1, 1), datetime(2200, 1, 1))


class DuckDBSource(Source):
    """Rows that one DuckDB statement returns."""

    subject = "the warehouse"  # of error messages

    def __init__(self, connection: duckdb.DuckDBPyConnection, time: str) -> None:
        self.connection = connection
        self.time = time
        self._views = 0

    @abstractmethod
    def statement(self, since: datetime, until: datetime) -> str:
        """Return the SELECT statement for a window."""

    def read(self, since: datetime, until: datetime) -> pa.RecordBatchReader:
        """Fetch the rows of a window in batches."""
        statement, columns = self._plan(since, until)

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                yield from reader
            except Exception as error:
                raise self._failure(error) from error

        try:
            reader = self.connection.execute(statement).to_arrow_reader(batch_rows(columns))
        except duckdb.Error as error:
            raise self._failure(error) from error
        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    def table(self, since: datetime, until: datetime) -> Table:
        """Return the rows of a window as a view of DuckDB."""
        import ibis  # a second that fetching rows does not need

        statement, _ = self._plan(since, until)
        self._views += 1
        view = f"rows_{self._views}"
        self.connection.execute(f"CREATE TEMP VIEW {view} AS {statement}")
        return ibis.duckdb.from_connection(self.connection).sql(f"SELECT * FROM {view}", dialect="duckdb")  # noqa: S608

    def describe_extent(self) -> str:
        """Describe the time that the rows cover."""
        statement, _ = self._plan(*EVER)
        times = f"CAST({quote(self.time)} AS TIMESTAMP)"
        try:
            [extent] = self.connection.execute(f"SELECT min({times}), max({times}) FROM ({statement}\n)").fetchall()  # noqa: S608
        except duckdb.Error as error:
            raise self._failure(error) from error
        return describe_range(*extent)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _plan(self, since: datetime, until: datetime) -> tuple[str, int]:
        """Return the statement for a window, with types that Parquet files have, and its number of columns.

        Raises:
            UserError: DuckDB rejects the statement.
        """
        statement = self.statement(since, until)
        try:
            relation = self.connection.sql(statement)
        except duckdb.Error as error:
            raise UserError(f"{self.subject} rejects the query: {first_line(error)}") from error
        columns, casts = relation.columns, []
        duckdb_connection.widen(self.connection, len(columns))
        for name, kind in zip(columns, relation.types, strict=True):
            if kind.id in TEXT_TYPES or str(kind) == "JSON":
                casts.append(f"CAST({quote(name)} AS VARCHAR) AS {quote(name)}")
        if casts:
            statement = f"SELECT * REPLACE ({', '.join(casts)}) FROM ({statement}\n)"  # noqa: S608
        return statement, len(columns)

    def _failure(self, error: Exception) -> UserError:
        """Return the error for a statement that fails while it runs."""
        return UserError(f"{self.subject} failed during the query: {first_line(error)}")
