"""How rows come into their table: what PyAirbyte does, but that they come as what they are.

Of each key the last row counts, where PyAirbyte would insert all that come at once. Times are in UTC, where a warehouse
would leave out the offset. And PostgreSQL reads texts as texts, where PyAirbyte lets pandas make a number of 007.
"""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

import sqlalchemy
from airbyte._processors.sql.postgres import PostgresSqlProcessor
from airbyte.caches import BigQueryCache, DuckDBCache, PostgresCache, SnowflakeCache
from airbyte.shared.sql_processor import SqlProcessorBase

if TYPE_CHECKING:
    from pathlib import Path

    from airbyte.caches import CacheBase
    from airbyte.progress import ProgressTracker
    from airbyte.records import StreamRecordHandler
    from airbyte_protocol.models import AirbyteRecordMessage

ORDER = "_airbyte_raw_id"  # PyAirbyte's own column, which grows with each row


class Copying(PostgresSqlProcessor):
    """Has PostgreSQL read the rows itself."""

    def _write_files_to_new_table(self, files: list[Path], stream_name: str, batch_id: str) -> str:
        table: str = self._create_table_for_loading(stream_name, batch_id)
        into = self._fully_qualified(table)
        values = {
            self._quote_identifier(name): f"CAST(line->>'{name}' AS numeric)"  # 5.0 is an integer in JSON
            if isinstance(kind, sqlalchemy.BIGINT)
            else f"known.{self._quote_identifier(name)}"
            for name, kind in self._get_sql_column_definitions(stream_name).items()
        }
        with self.get_sql_connection() as connection, connection.connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE lines (line json) ON COMMIT DROP")
            for path in files:
                with gzip.open(path, "rt", encoding="utf-8") as file:
                    cursor.copy_expert(r"COPY lines FROM STDIN (FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01')", file)
            read = f"SELECT {', '.join(values.values())} FROM lines, json_populate_record(NULL::{into}, line) AS known"  # noqa: S608
            cursor.execute(f"INSERT INTO {into} ({', '.join(values)}) {read}")
        return table


class Exact(SqlProcessorBase):
    """Loads as any of PyAirbyte's does, with each key once and times in UTC."""

    def process_record_message(
        self,
        record_msg: AirbyteRecordMessage,
        stream_record_handler: StreamRecordHandler,
        progress_tracker: ProgressTracker,
    ) -> None:
        """Put the times of a row into UTC before it is written to a file."""
        for name, said in self.catalog_provider.get_stream_properties(record_msg.stream).items():
            if said.get("format") == "date-time" and isinstance(time := record_msg.data.get(name), str):
                record_msg.data[name] = in_utc(time)
        super().process_record_message(record_msg, stream_record_handler, progress_tracker)

    def _write_files_to_new_table(self, files: list[Path], stream_name: str, batch_id: str) -> str:
        table: str = super()._write_files_to_new_table(files, stream_name, batch_id)
        if keys := self.catalog_provider.get_primary_keys(stream_name):
            within, by = self._fully_qualified(table), ", ".join(map(self._quote_identifier, keys))
            place = f"ROW_NUMBER() OVER (PARTITION BY {by} ORDER BY {ORDER} DESC)"
            older = f"SELECT {ORDER} FROM (SELECT {ORDER}, {place} AS place FROM {within}) AS ranked WHERE place > 1"  # noqa: S608
            self._execute_sql(f"DELETE FROM {within} WHERE {ORDER} IN ({older})")  # noqa: S608
        return table


def exact(cache: type[CacheBase], processor: type[SqlProcessorBase]) -> type[CacheBase]:
    """Return a cache that loads so."""

    class Processor(Exact, processor):  # type: ignore[misc, valid-type]
        pass

    class Cache(cache):  # type: ignore[misc, valid-type]
        _sql_processor_class: ClassVar[type[SqlProcessorBase]] = Processor

    return Cache


def in_utc(time: str) -> str:
    """Return a time without its offset from UTC; what is none, or has none, as it is."""
    try:
        read = datetime.fromisoformat(time)
    except ValueError:
        return time
    return read.astimezone(UTC).replace(tzinfo=None).isoformat() if read.tzinfo else time


CACHES = {
    cache.__name__: exact(cache, Copying if cache is PostgresCache else cache._sql_processor_class)
    for cache in (DuckDBCache, PostgresCache, SnowflakeCache, BigQueryCache)
}
