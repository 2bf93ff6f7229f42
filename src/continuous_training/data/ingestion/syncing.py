"""Ingest: sync a source into the warehouse, with PyAirbyte in an environment of its own."""

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


class Synced(Value):
    """How many rows of each stream were read; they are in the warehouse."""

    source: str
    streams: dict[str, int]

    @property
    def summary(self) -> str:
        """What a person reads on the console, and a program in its last line."""
        if not any(self.streams.values()):
            return f"{self.source}: nothing new\n0"
        counts = ", ".join(f"{rows:,} rows of {stream}" for stream, rows in self.streams.items())
        return f"{self.source}: {counts}\n{sum(self.streams.values())}"


class Answer(Value):
    """What the program says in the end."""

    streams: dict[str, int] = Field(default_factory=dict)
    problem: str | None = None


def sync(name: str, settings: Settings) -> Synced:
    """Sync a source into the warehouse of training.yaml, or of CT_WAREHOUSE_URL.

    Raises:
        UserError: the source is not described well, is being synced already, or cannot be read; or the warehouse cannot
            be opened or written.
    """
    wanted = source.load(name)
    secrets, masks = wanted.secrets, Secrets()
    for value in secrets.values():
        masks.add(value)
    into = destination.of(settings.warehouse_url, wanted.into)
    executable, python = wanted.executable, environments.python(source.FOLDER / environments.LOCK)
    if settings.sample and settings.warehouse_url == settings.warehouse:
        warehouse.connect(settings).disconnect()  # or its file would be there, and never be filled with the sample
    shown = without_password(settings.warehouse_url)
    with _alone(name) as (folder, turn):
        order = {
            "source": name,
            "executable": str(executable),
            "config": source.filled(wanted.config, secrets),
            "streams": {stream: message.model_dump() for stream, message in wanted.streams.items()},
            "cache": into.cache,
            "arguments": into.arguments,
            "folder": str(folder.absolute()),
        }
        log.info("Syncing %s from %s into %s", ", ".join(wanted.streams), wanted.connector, shown)
        with (folder / "log").open("wb") as message:
            done = subprocess.run(
                [python, PROGRAM],
                input=json.dumps(order).encode(),
                stdout=subprocess.PIPE,
                stderr=message,
                env={**os.environ, **into.environment},
                pass_fds=[turn],
                check=False,
            )
        told = f"(log: {folder / 'log'})"
    try:
        answer = Answer.model_validate_json(done.stdout)
    except ValidationError:
        raise UserError(f"{name}: its sync has ended with {done.returncode} and without an answer {told}") from None
    if answer.problem:
        raise UserError(f"{name}: {without_password(masks.mask(answer.problem))} {told}")
    return Synced(source=name, streams=answer.streams)


@contextmanager
def _alone(name: str) -> Iterator[tuple[Path, int]]:
    """Empty this source's folder for one sync at a time; gives what keeps others out as long as anybody has it open.

    The program is given it too: it may outlive whoever started it.

    Raises:
        UserError: it is being synced.
    """
    folder = WORK / name
    WORK.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".turn").open("w") as turn:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{name} is being synced already: try again when that has ended") from None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)  # PyAirbyte writes secrets there for the connector
        yield folder, turn.fileno()
