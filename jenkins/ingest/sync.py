"""Sync one source into the warehouse with PyAirbyte, in whose environment this runs.

`ct ingest` starts it. What to do comes as JSON on standard input, what became of it goes as JSON to standard output,
and all that PyAirbyte says meanwhile to standard error. Airbyte's registry is not asked, and nobody is told of it.

Rows go to files first, into their table at the end of a stream, and then the state is kept beside them. Whoever is
killed in between reads those rows again, and the key of each puts it in its old place.
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
LOADED = "_01[0-9a-hjkmnp-tv-z]{7}"  # after a table's name: what PyAirbyte loads into, and drops if it is not killed
OWN = "_airbyte_raw_id"  # a column of all its tables


class Refusal(Exception):  # noqa: N818 - what it is called for people
    """Why it was not synced: one line."""


class LastError(logging.Handler):
    """Keeps the last error that the connector told of, which PyAirbyte only logs."""

    said = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.said = record.getMessage()


def main() -> int:
    """Do what standard input says."""
    given = json.load(sys.stdin)
    answers, sys.stdout = sys.stdout, sys.stderr
    alone(Path(given["folder"]))
    try:
        answer: dict[str, Any] = {"streams": sync(given)}
    except Refusal as why:
        answer = {"problem": str(why)}
    json.dump(answer, answers)
    return "problem" in answer


def alone(folder: Path) -> None:
    """Say, before PyAirbyte is imported, that it is to stay by itself; its files, with secrets in some, stay here."""
    os.environ.update(
        {
            "AIRBYTE_LOGGING_ROOT": str(folder / "logs"),
            "AIRBYTE_OFFLINE_MODE": "1",
            "AIRBYTE_PROJECT_DIR": str(folder),
            "AIRBYTE_TEMP_DIR": str(folder),
            "DO_NOT_TRACK": "1",
        }
    )


def sync(given: dict[str, Any]) -> dict[str, int]:
    """Sync the streams; return how many rows of each were read.

    Raises:
        Refusal: the warehouse, the connector or its rows cannot be had or used.
    """
    from airbyte.exceptions import PyAirbyteError
    from loading import CACHES

    import airbyte  # ten seconds

    try:
        cache = CACHES[given["cache"]](cache_dir=Path(given["folder"]), **given["arguments"])
    except Exception as error:
        said = first_line(error)
        if "Could not set lock" in said:
            raise Refusal(f"the warehouse is open elsewhere: try again when it is closed ({said})") from error
        raise Refusal(f"the warehouse cannot be opened: {said}") from error
    source = airbyte.get_source(given["source"], given["config"], local_executable=given["executable"])
    last = LastError(logging.ERROR)
    logging.getLogger(f"airbyte.{given['source']}").addHandler(last)
    with cache:
        try:
            describe(source, given["streams"])
            make_ready(cache, list(given["streams"]))
            read = source.read(cache, streams=list(given["streams"]), skip_validation=True)
        except PyAirbyteError as error:
            raise Refusal(f"the connector fails: {why(source, last, error)}") from error
        except Refusal:
            raise
        except Exception as error:
            raise Refusal(f"the warehouse does not take the rows: {first_line(error)}") from error
    counts = read._progress_tracker.stream_read_counts
    return {name: counts[name] for name in given["streams"]}


def describe(source: Source, streams: dict[str, dict[str, Any]]) -> None:
    """Add what the file says of the streams to what the connector says of them.

    Raises:
        Refusal: there is no such stream, or nothing tells its rows apart.
    """
    known = {stream.name: stream for stream in source.discovered_catalog.streams}
    for name, wanted in streams.items():
        if name not in known:
            raise Refusal(f"the source has no stream {name}, only {', '.join(sorted(known))}")
        stream = known[name]
        if unknown := sorted({*wanted["key"], wanted["cursor"]} - {*stream.json_schema["properties"], None}):
            raise Refusal(f"the stream {name} has no column {unknown[0]}: has the source changed?")
        if wanted["key"]:
            stream.source_defined_primary_key = [[column] for column in wanted["key"]]
        if wanted["cursor"]:
            stream.default_cursor_field = [wanted["cursor"]]
        incremental = any(mode.value == "incremental" for mode in stream.supported_sync_modes)
        if incremental and not stream.source_defined_primary_key:
            raise Refusal(f"the stream {name} has no key, so rows that are read twice would stay twice: say its key")


def make_ready(cache: CacheBase, streams: list[str]) -> None:
    """Drop what a killed sync has left, and forget how far a stream was read whose table is gone."""
    import sqlalchemy

    known = sqlalchemy.inspect(cache.get_sql_engine())
    tables = known.get_table_names(schema=cache.schema_name)
    for stream in streams:
        table = cache.processor.get_sql_table_name(stream)
        for left in filter(re.compile(re.escape(table) + LOADED).fullmatch, tables):
            if OWN in {column["name"] for column in known.get_columns(left, schema=cache.schema_name)}:
                cache.execute_sql(f'DROP TABLE {cache.schema_name}."{left}"')
        if table not in tables and STATE in tables:
            cache.execute_sql(f"DELETE FROM {cache.schema_name}.{STATE} WHERE table_name = '{stream}'")  # noqa: S608


def why(source: Source, last: LastError, error: Exception) -> str:
    """Return what the connector says of its failure; if it has not said it, its check may."""
    from airbyte.exceptions import PyAirbyteError

    if last.said:
        return one_line(last.said)
    try:
        source.check()
    except PyAirbyteError as found:
        said = (found.context or {}).get("failure_reason") or last.said
        return one_line(said or found.get_message())
    return one_line(error.get_message() if isinstance(error, PyAirbyteError) else str(error))


def first_line(error: BaseException) -> str:
    """Return what the warehouse's driver said, below all that was wrapped around it."""
    driver = next((found.orig for found in chain(error) if getattr(found, "orig", None)), error)
    return str(driver).strip().partition("\n")[0] or type(driver).__name__


def chain(error: BaseException | None) -> Iterator[Any]:
    """Give an error and what it was made of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def one_line(said: str) -> str:
    """Return it without line breaks."""
    return " ".join(said.split())


if __name__ == "__main__":
    sys.exit(main())
