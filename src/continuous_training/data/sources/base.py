"""The interface of all sources: the rows of a model between two moments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from continuous_training.data.driver_errors import to_user_error
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ibis.expr.types import Table

BATCH_VALUES = 500_000  # values per batch: memory does not grow with the number of rows or columns


class Source(ABC):
    """Reads the rows of windows `[since, until)`; both moments are in UTC, without a zone.

    A source is a context manager. Tables are lazy, so the source stays open as long as one is in use.
    """

    @abstractmethod
    def read(self, since: datetime, until: datetime) -> pa.RecordBatchReader:
        """Fetch the rows of a window in batches.

        Raises:
            ConnectionLostError: the connection to the warehouse was lost. Iterating raises it too.
            UserError: the rows cannot be read. Iterating raises it too.
        """

    @abstractmethod
    def table(self, since: datetime, until: datetime) -> Table:
        """Return the rows of a window as an Ibis table, which is evaluated where the rows are.

        Raises:
            ConnectionLostError: the connection to the warehouse was lost.
            UserError: the rows cannot be read.
        """

    @abstractmethod
    def describe_extent(self) -> str:
        """Describe the time that the source's rows cover, for the message that a window has none."""

    def close(self) -> None:  # noqa: B027 - most sources have nothing to close but a connection
        """Release the connection and its memory."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def batch_rows(columns: int) -> int:
    """Return how many rows a batch of so many columns has."""
    return max(1, BATCH_VALUES // max(1, columns))


def read_table(table: Table) -> pa.RecordBatchReader:
    """Fetch the rows of an Ibis table in batches.

    Raises:
        ConnectionLostError: the connection to the warehouse was lost. Iterating raises it too.
        UserError: the warehouse cannot complete the query. Iterating raises it too.
    """

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except Exception as error:
            raise to_user_error("the warehouse failed during the query", error) from error

    try:
        reader = table.to_pyarrow_batches(chunk_size=batch_rows(len(table.columns)))
    except Exception as error:
        raise to_user_error("the warehouse failed during the query", error) from error
    return pa.RecordBatchReader.from_batches(reader.schema, batches())


def check_columns(schema: pa.Schema, time: str) -> None:
    """Check that the columns have different names, and that one of them is the time column.

    Raises:
        UserError: they do not.
    """
    names: list[str] = schema.names
    by_name: dict[str, str] = {}
    for name in names:
        if name.lower() in by_name:
            other = by_name[name.lower()]
            raise UserError(f"two columns differ in capitals only, or not at all, '{other}' and '{name}': rename one")
        by_name[name.lower()] = name
    if time not in by_name.values():
        raise UserError(f"there is no time column '{time}': the data has {list_names(names)}")
    kind = schema.field(time).type
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise UserError(f"the time column '{time}' is of type {kind}: it must be a date or a timestamp")


def describe_range(oldest: datetime | None, newest: datetime | None) -> str:
    """Return the phrase for a source's oldest and newest row."""
    if oldest is None or newest is None:
        return "there are none at any other time either"
    return f"the data runs from {oldest:%Y-%m-%d} to {newest:%Y-%m-%d}"


def list_names(names: list[str], limit: int = 10) -> str:
    """Return some of the names, for a message of one line."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"'{name}'" for name in names[:limit]) + more
