"""Loading rows into their table: PyAirbyte's caches with three corrections.

Of several rows with one key only the last is stored, where PyAirbyte inserts all of one batch. Times are converted to
UTC, where a warehouse would drop the offset. And PostgreSQL parses the values itself, where PyAirbyte lets pandas turn
the text 007 into a number.
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

ORDER = "_airbyte_raw_id"  # a column of PyAirbyte that increases with each row


class CopyProcessor(PostgresSqlProcessor):
    """Loads files with COPY, so that PostgreSQL parses the values."""

    def _write_files_to_new_table(self, files: list[Path], stream_name: str, batch_id: str) -> str:
        table: str = self._create_table_for_loading(stream_name, batch_id)
        target = self._fully_qualified(table)
        values = {
            self._quote_identifier(name): f"CAST(line->>'{name}' AS numeric)"  # 5.0 is an integer in JSON
            if isinstance(kind, sqlalchemy.BIGINT)
            else f"parsed.{self._quote_identifier(name)}"
            for name, kind in self._get_sql_column_definitions(stream_name).items()
        }
        with self.get_sql_connection() as connection, connection.connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE lines (line json) ON COMMIT DROP")
            for path in files:
                with gzip.open(path, "rt", encoding="utf-8") as file:
                    cursor.copy_expert(r"COPY lines FROM STDIN (FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01')", file)
            select = (
                f"SELECT {', '.join(values.values())} FROM lines, json_populate_record(NULL::{target}, line) AS parsed"  # noqa: S608
            )
            cursor.execute(f"INSERT INTO {target} ({', '.join(values)}) {select}")
        return table


class DeduplicatingProcessor(SqlProcessorBase):
    """Stores each key once, and times in UTC."""

    def process_record_message(
        self,
        record_msg: AirbyteRecordMessage,
        stream_record_handler: StreamRecordHandler,
        progress_tracker: ProgressTracker,
    ) -> None:
        """Convert the times of a row to UTC before it is written to a file."""
        for name, schema in self.catalog_provider.get_stream_properties(record_msg.stream).items():
            if schema.get("format") == "date-time" and isinstance(time := record_msg.data.get(name), str):
                record_msg.data[name] = convert_to_utc(time)
        super().process_record_message(record_msg, stream_record_handler, progress_tracker)

    def _write_files_to_new_table(self, files: list[Path], stream_name: str, batch_id: str) -> str:
        table: str = super()._write_files_to_new_table(files, stream_name, batch_id)
        if keys := self.catalog_provider.get_primary_keys(stream_name):
            full_name, by = self._fully_qualified(table), ", ".join(map(self._quote_identifier, keys))
            rank = f"ROW_NUMBER() OVER (PARTITION BY {by} ORDER BY {ORDER} DESC)"
            older = f"SELECT {ORDER} FROM (SELECT {ORDER}, {rank} AS rank FROM {full_name}) AS ranked WHERE rank > 1"  # noqa: S608
            self._execute_sql(f"DELETE FROM {full_name} WHERE {ORDER} IN ({older})")  # noqa: S608
        return table


def with_corrections(cache: type[CacheBase], processor: type[SqlProcessorBase]) -> type[CacheBase]:
    """Return a subclass of a PyAirbyte cache that loads rows with this module's corrections."""

    class Processor(DeduplicatingProcessor, processor):  # type: ignore[misc, valid-type]
        pass

    class Cache(cache):  # type: ignore[misc, valid-type]
        _sql_processor_class: ClassVar[type[SqlProcessorBase]] = Processor

    return Cache


def convert_to_utc(time: str) -> str:
    """Return an ISO 8601 time in UTC and without an offset; a text that is no time, or has no offset, unchanged."""
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError:
        return time
    return parsed.astimezone(UTC).replace(tzinfo=None).isoformat() if parsed.tzinfo else time


CACHES = {
    cache.__name__: with_corrections(cache, CopyProcessor if cache is PostgresCache else cache._sql_processor_class)
    for cache in (DuckDBCache, PostgresCache, SnowflakeCache, BigQueryCache)
}
