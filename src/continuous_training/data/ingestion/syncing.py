"""Ingest: sync a source into the warehouse, with PyAirbyte in a separate environment."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from continuous_training import environments
from continuous_training.data import warehouse
from continuous_training.data.ingestion import destination, source
from continuous_training.documents import Value
from continuous_training.errors import UserError
from continuous_training.settings import STATE
from continuous_training.urls import without_password
from jenkinsfile.builds.masking import Secrets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from continuous_training.settings import Settings

log = logging.getLogger(__name__)

PROGRAM = source.FOLDER / "sync.py"
WORK = STATE / "ingest"


class SyncResult(Value):
    """How many rows of each stream a sync has read and written to the warehouse."""

    source: str
    streams: dict[str, int]

    @property
    def summary(self) -> str:
        """Text for the console; its last line is the number of rows alone, for programs."""
        if not any(self.streams.values()):
            return f"{self.source}: nothing new\n0"
        counts = ", ".join(f"{rows:,} rows of {stream}" for stream, rows in self.streams.items())
        return f"{self.source}: {counts}\n{sum(self.streams.values())}"


class Response(Value):
    """What jenkins/ingest/sync.py writes to its standard output."""

    streams: dict[str, int] = Field(default_factory=dict)
    problem: str | None = None


def sync(name: str, settings: Settings) -> SyncResult:
    """Sync a source into the warehouse of training.yaml, or of CT_WAREHOUSE_URL.

    Raises:
        UserError: the source's file is malformed, the source is being synced already or cannot be read, or the
            warehouse cannot be opened or written.
    """
    connector = source.load_source(name)
    secrets, masks = connector.secrets, Secrets()
    for value in secrets.values():
        masks.add(value)
    target = destination.parse_destination(settings.warehouse_url, connector.into)
    executable, python = connector.executable, environments.ensure_python(source.FOLDER / environments.LOCK)
    if settings.sample and settings.warehouse_url == settings.warehouse:
        # PyAirbyte would create the file, and a file that exists is never filled with the sample.
        warehouse.connect(settings).disconnect()
    with _lock(name) as (folder, lock):
        log_file = folder / "log"
        request = {
            "source": name,
            "executable": str(executable),
            "config": source.insert_secrets(connector.config, secrets),
            "streams": {stream: options.model_dump() for stream, options in connector.streams.items()},
            "cache": target.cache,
            "arguments": target.arguments,
            "folder": str(folder.absolute()),
        }
        url = without_password(settings.warehouse_url)
        log.info("Syncing %s from %s into %s", ", ".join(connector.streams), connector.connector, url)
        with log_file.open("wb") as output:
            process = subprocess.run(
                [python, PROGRAM],
                input=json.dumps(request).encode(),
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, **target.environment},
                pass_fds=[lock],
                check=False,
            )
    try:
        response = Response.model_validate_json(process.stdout)
    except ValidationError:
        raise UserError(
            f"{name}: the sync ended with exit code {process.returncode} and without a result (log: {log_file})"
        ) from None
    if response.problem:
        raise UserError(f"{name}: {without_password(masks.mask(response.problem))} (log: {log_file})")
    return SyncResult(source=name, streams=response.streams)


@contextmanager
def _lock(name: str) -> Iterator[tuple[Path, int]]:
    """Lock a source and empty its folder; yields the folder and the lock's file descriptor.

    The sync's process inherits the descriptor, because it may outlive this one: the lock holds until both have ended.

    Raises:
        UserError: the source is being synced already.
    """
    folder = WORK / name
    WORK.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{name} is being synced already: try again when that sync has ended") from None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)  # PyAirbyte writes secrets there for the connector
        yield folder, lock.fileno()
