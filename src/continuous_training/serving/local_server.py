"""The servers that Deploy starts on this machine if none runs at a local address of SERVING_URLS.

Each has its own files in the workspace, named after its address: .ct/server-127.0.0.1-8000.json with its process, and
.ct/server-127.0.0.1-8000.log.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
from pydantic import ValidationError

from continuous_training.documents import Value, write_atomically
from continuous_training.errors import UserError
from continuous_training.registry import connection
from continuous_training.settings import STATE

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
SHUTDOWN_SECONDS = 10


class ServerRecord(Value):
    """A server that this workspace has started; `born` is its process' start, as process ids are used again.

    `registry` is the hash of the tracking URI with which it was started, and may hold a password.
    """

    pid: int
    born: float
    url: str
    registry: str | None = None

    @property
    def process(self) -> psutil.Process | None:
        """The server's process, if it still runs."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if process.create_time() == self.born and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


def is_local(url: str) -> bool:
    """Return whether the address is on this machine."""
    return urlsplit(url).hostname in LOOPBACK


def start_server(url: str, model: str) -> int:
    """Start a server that outlives this process; return its process id.

    Jenkins kills the processes that a build leaves, except those with another JENKINS_NODE_COOKIE.
    """
    host, port = _split(url)
    command = [sys.executable, "scripts/serve.py", "--model", model, "--host", host, "--port", str(port)]
    STATE.mkdir(exist_ok=True)
    with log_path(url).open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"JENKINS_NODE_COOKIE": "dontKillMe", "BUILD_ID": "dontKillMe"},
        )
    born = psutil.Process(process.pid).create_time()
    record = ServerRecord(pid=process.pid, born=born, url=url, registry=_hash_tracking_uri())
    write_atomically(_path(url, "json"), record.model_dump_json() + "\n")
    return process.pid


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def started_here(url: str) -> bool:
    """Return whether this workspace has started the server that runs at an address, with the current tracking URI."""
    record = _read_record(_path(url, "json"))
    return record is not None and record.process is not None and record.registry == _hash_tracking_uri()


def stop_servers(port: int | None = None) -> list[str]:
    """Stop the servers that this workspace has started, or the one at a port; return their addresses.

    Raises:
        UserError: a server does not end.
    """
    addresses = []
    for path in sorted(STATE.glob("server*.json")):
        record = _read_record(path)
        if record is not None:
            if port is not None and port != _split(record.url)[1]:
                continue
            if process := record.process:
                _stop(process, record.url)
                addresses.append(record.url)
        path.unlink(missing_ok=True)
    return addresses


def read_port(url: str) -> int:
    """Return the port of a local address.

    Raises:
        UserError: it is not an address of this machine.
    """
    if not is_local(url):
        raise UserError(f"{url} is not a server on this machine: stop it where it runs")
    return _split(url)[1]


def log_path(url: str) -> Path:
    """Return the path of a server's log."""
    return _path(url, "log")


def read_last_messages(url: str, lines: int = 3) -> str:
    """Return the messages of the last lines of a server's log, without their other fields."""
    path = log_path(url)
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return " / ".join(map(_extract_message, text.splitlines()[-lines:]))


def _stop(process: psutil.Process, url: str) -> None:
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while is_running(process.pid):  # not Process.wait, which waits for the parent of a zombie
        if time.monotonic() > deadline:
            raise UserError(f"the server at {url} (process {process.pid}) does not end: kill it")
        time.sleep(0.05)


def _split(url: str) -> tuple[str, int]:
    address = urlsplit(url)
    return address.hostname or "127.0.0.1", address.port or 80


def _path(url: str, suffix: str) -> Path:
    host, port = _split(url)
    return STATE / f"server-{host.replace(':', '_')}-{port}.{suffix}"


def _read_record(path: Path) -> ServerRecord | None:
    try:
        return ServerRecord.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _hash_tracking_uri() -> str:
    return hashlib.sha256(connection.tracking_uri().encode()).hexdigest()


def _extract_message(line: str) -> str:
    """Return the message and exception of a JSON record, the last line of each; any other line as it is."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict) or "message" not in record:
        return line
    parts = (str(record.get(name, "")).strip().rpartition("\n")[2] for name in ("message", "exception"))
    return ": ".join(part for part in parts if part)
