"""Sync one source into the warehouse with PyAirbyte, in PyAirbyte's environment.

`ct ingest` starts it. It reads a request as JSON from standard input and writes the result as JSON to standard output;
PyAirbyte's own output goes to standard error. Neither Airbyte's registry nor its telemetry is used.

Rows are written to files first, then to their table at the end of a stream, and then the state is stored beside them. A
sync that is killed in between reads those rows again; because of their key no row is stored twice.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airbyte.caches import CacheBase

    from airbyte import Source

STATE = "_airbyte_state"
LOADED = "_01[0-9a-hjkmnp-tv-z]{7}"  # suffix of the table that PyAirbyte loads into, and drops unless it is killed
RAW_ID = "_airbyte_raw_id"  # a column of every table of PyAirbyte


class SyncError(Exception):
    """The source was not synced; the message is one line."""


class LastError(logging.Handler):
    """Stores the last error message of the connector, which PyAirbyte only logs."""

    message = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Store the message."""
        self.message = record.getMessage()


def main() -> int:
    """Run the request on standard input."""
    request = json.load(sys.stdin)
    output, sys.stdout = sys.stdout, sys.stderr
    configure(Path(request["folder"]))
    try:
        response: dict[str, Any] = {"streams": sync(request)}
    except SyncError as error:
        response = {"problem": str(error)}
    json.dump(response, output)
    return "problem" in response


def configure(folder: Path) -> None:
    """Set PyAirbyte to work offline and in this folder, before its import: some of its files contain secrets."""
    os.environ.update(
        {
            "AIRBYTE_LOGGING_ROOT": str(folder / "logs"),
            "AIRBYTE_OFFLINE_MODE": "1",
            "AIRBYTE_PROJECT_DIR": str(folder),
            "AIRBYTE_TEMP_DIR": str(folder),
            "DO_NOT_TRACK": "1",
        }
    )


def sync(request: dict[str, Any]) -> dict[str, int]:
    """Sync the streams; return how many rows of each were read.

    Raises:
        SyncError: the warehouse cannot be opened or does not accept the rows, or the connector fails.
    """
    from airbyte.exceptions import PyAirbyteError
    from loading import CACHES

    import airbyte  # ten seconds

    try:
        cache = CACHES[request["cache"]](cache_dir=Path(request["folder"]), **request["arguments"])
    except Exception as error:
        message = first_line(error)
        if "Could not set lock" in message:
            raise SyncError(f"another process has the warehouse open: try again later ({message})") from error
        raise SyncError(f"the warehouse cannot be opened: {message}") from error
    source = airbyte.get_source(request["source"], request["config"], local_executable=request["executable"])
    last_error = LastError(logging.ERROR)
    logging.getLogger(f"airbyte.{request['source']}").addHandler(last_error)
    streams = request["streams"]
    with cache:
        try:
            configure_streams(source, streams)
            clean_up(cache, list(streams))
            result = source.read(cache, streams=list(streams), skip_validation=True)
        except PyAirbyteError as error:
            raise SyncError(f"the connector fails: {failure_reason(source, last_error, error)}") from error
        except SyncError:
            raise
        except Exception as error:
            raise SyncError(f"the warehouse does not accept the rows: {first_line(error)}") from error
    counts = result._progress_tracker.stream_read_counts
    return {name: counts[name] for name in streams}


def configure_streams(source: Source, streams: dict[str, dict[str, Any]]) -> None:
    """Set the keys and cursors of the YAML file on the streams of the connector's catalog.

    Raises:
        SyncError: there is no such stream, or it has no key.
    """
    catalog = {stream.name: stream for stream in source.discovered_catalog.streams}
    for name, options in streams.items():
        if name not in catalog:
            raise SyncError(f"the source has no stream {name}, only {', '.join(sorted(catalog))}")
        stream = catalog[name]
        if unknown := sorted({*options["key"], options["cursor"]} - {*stream.json_schema["properties"], None}):
            raise SyncError(f"the stream {name} has no column {unknown[0]}: has the source changed?")
        if options["key"]:
            stream.source_defined_primary_key = [[column] for column in options["key"]]
        if options["cursor"]:
            stream.default_cursor_field = [options["cursor"]]
        incremental = any(mode.value == "incremental" for mode in stream.supported_sync_modes)
        if incremental and not stream.source_defined_primary_key:
            raise SyncError(
                f"the stream {name} has no key, so rows that are read twice would be stored twice: name its key"
            )


def clean_up(cache: CacheBase, streams: list[str]) -> None:
    """Drop the tables that a killed sync has left, and the state of streams whose table was dropped."""
    import sqlalchemy

    inspector = sqlalchemy.inspect(cache.get_sql_engine())
    tables = inspector.get_table_names(schema=cache.schema_name)
    for stream in streams:
        table = cache.processor.get_sql_table_name(stream)
        for leftover in filter(re.compile(re.escape(table) + LOADED).fullmatch, tables):
            if RAW_ID in {column["name"] for column in inspector.get_columns(leftover, schema=cache.schema_name)}:
                cache.execute_sql(f'DROP TABLE {cache.schema_name}."{leftover}"')
        if table not in tables and STATE in tables:
            cache.execute_sql(f"DELETE FROM {cache.schema_name}.{STATE} WHERE table_name = '{stream}'")  # noqa: S608


def failure_reason(source: Source, last_error: LastError, error: Exception) -> str:
    """Return the connector's error message; if it logged none, that of its connection check."""
    from airbyte.exceptions import PyAirbyteError

    if last_error.message:
        return one_line(last_error.message)
    try:
        source.check()
    except PyAirbyteError as check_error:
        message = (check_error.context or {}).get("failure_reason") or last_error.message
        return one_line(message or check_error.get_message())
    return one_line(error.get_message() if isinstance(error, PyAirbyteError) else str(error))


def first_line(error: BaseException) -> str:
    """Return the first line of the warehouse driver's message, below the exceptions that wrap it."""
    driver = next((link.orig for link in cause_chain(error) if getattr(link, "orig", None)), error)
    return str(driver).strip().partition("\n")[0] or type(driver).__name__


def cause_chain(error: BaseException | None) -> Iterator[Any]:
    """Yield an exception and its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def one_line(message: str) -> str:
    """Return a message without line breaks."""
    return " ".join(message.split())


if __name__ == "__main__":
    sys.exit(main())
