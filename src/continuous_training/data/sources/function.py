"""Rows of a Python function: `data.source` in training.yaml is `package.module:function`.

The function gets the window's first moment and its end, in UTC without a zone, and returns the rows with
`since <= time < until` as an Arrow table, a RecordBatchReader or a DataFrame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from continuous_training.data import duckdb_connection
from continuous_training.data.driver_errors import first_line
from continuous_training.data.sources.base import Source, batch_rows, check_columns
from continuous_training.errors import UserError
from continuous_training.function_references import import_function

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ibis.expr.types import Table

EXPECTED = "an Arrow table, a RecordBatchReader or a DataFrame"


class FunctionSource(Source):
    """Rows that a function returns."""

    def __init__(self, name: str, time: str) -> None:
        """Import the function.

        Args:
            name: `package.module:function`.
            time: the name of the time column.

        Raises:
            UserError: there is no such function, or its module cannot be imported.
        """
        self.name = name
        self.time = time
        self.function = import_function(name, "data.source")

    def read(self, since: datetime, until: datetime) -> pa.RecordBatchReader:
        """Call the function, and check that its rows lie inside of the window."""
        try:
            rows = self._open_reader(self.function(since, until))
        except UserError:
            raise
        except Exception as error:  # whatever the team's function raises
            raise self._failure(error) from error
        check_columns(rows.schema, self.time)
        schema = pa.schema([(field.name, _portable_type(field.type)) for field in rows.schema])

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for batch in rows:
                    self._check_window(batch.column(self.time), since, until)
                    for start in range(0, batch.num_rows, size):
                        yield batch.slice(start, size).cast(schema)
            except UserError:
                raise
            except Exception as error:
                raise self._failure(error) from error

        size = batch_rows(len(schema))
        return pa.RecordBatchReader.from_batches(schema, batches())

    def table(self, since: datetime, until: datetime) -> Table:
        """Return the function's rows as a table of a DuckDB database in memory."""
        import ibis

        rows = self.read(since, until).read_all()
        backend = ibis.duckdb.from_connection(duckdb_connection.connect())
        return backend.create_table("rows", rows)

    def describe_extent(self) -> str:
        """Return how to find the reason: a function cannot be called for all times at once."""
        return f"call {self.name} for this window to see why"

    def _open_reader(self, rows: Any) -> pa.RecordBatchReader:  # noqa: ANN401 - what a team's function returns
        if type(rows).__module__.partition(".")[0] == "pandas":
            rows = pa.Table.from_pandas(rows, preserve_index=False)
        if isinstance(rows, pa.RecordBatchReader):
            return rows
        if not hasattr(rows, "__arrow_c_stream__"):
            raise UserError(f"data.source {self.name} returned a {type(rows).__name__}, not {EXPECTED}")
        return pa.RecordBatchReader.from_stream(rows)

    def _check_window(self, times: pa.Array, since: datetime, until: datetime) -> None:
        """Check that a batch has no row outside of the window: the model would be trained on fresh rows."""
        moments = pc.cast(times, pa.timestamp("us"), safe=False)
        first, end = (pa.scalar(moment, pa.timestamp("us")) for moment in (since, until))
        outside = pc.or_(pc.less(moments, first), pc.greater_equal(moments, end))
        if count := pc.sum(outside).as_py():
            example = moments.filter(outside)[0].as_py()
            raise UserError(
                f"data.source {self.name} returned {count:,} rows outside of its window, {since:%Y-%m-%d %H:%M} to "
                f"{until:%Y-%m-%d %H:%M}, for example of {example:%Y-%m-%d %H:%M}: filter them in the function"
            )

    def _failure(self, error: Exception) -> UserError:
        return UserError(f"data.source {self.name} raised {type(error).__name__}: {first_line(error)}")


def _portable_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that DuckDB's Arrow results have for the same values."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return kind
