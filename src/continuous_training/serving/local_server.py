"""The server that the Deploy step starts on this machine when none runs at the configured address."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from continuous_training.documents import write_atomically
from continuous_training.errors import UserError
from continuous_training.settings import STATE

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
GRACE_SECONDS = 10
RECORD = STATE / "server.json"
LOG = STATE / "server.log"


def can_start(url: str) -> bool:
    """Tell whether the address is one of this machine's own."""
    return urlsplit(url).hostname in LOOPBACK


def start(url: str, model: str) -> int:
    """Start a server that outlives this process; return its process id.

    Jenkins ends what a build leaves running; a process that changes JENKINS_NODE_COOKIE says that it is meant to stay.
    """
    address = urlsplit(url)
    command = [sys.executable, "scripts/serve.py", "--model", model]
    command += ["--host", address.hostname or "127.0.0.1", "--port", str(address.port or 80)]
    STATE.mkdir(exist_ok=True)
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"JENKINS_NODE_COOKIE": "dontKillMe", "BUILD_ID": "dontKillMe"},
        )
    born = psutil.Process(process.pid).create_time()
    write_atomically(RECORD, json.dumps({"pid": process.pid, "born": born, "url": url}) + "\n")
    return process.pid


def alive(pid: int) -> bool:
    """Tell whether the process is still there and not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop() -> str | None:
    """Stop the server that `start` recorded; return its address, or None if it does not run any more.

    Raises:
        UserError: it does not end.
    """
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
        server = psutil.Process(record["pid"])
    except (FileNotFoundError, psutil.NoSuchProcess):
        RECORD.unlink(missing_ok=True)
        return None
    if server.create_time() == record["born"]:  # else the number was given to another process since
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(GRACE_SECONDS)
        except psutil.TimeoutExpired:
            raise UserError(f"the server at {record['url']} (process {server.pid}) does not end") from None
    RECORD.unlink(missing_ok=True)
    return str(record["url"])


def last_words(lines: int = 3) -> str:
    """Return what the server said last in its log, without the rest of what each record holds."""
    text = LOG.read_text(encoding="utf-8", errors="replace") if Path(LOG).exists() else ""
    return " / ".join(map(_said, text.splitlines()[-lines:]))


def _said(line: str) -> str:
    """Return the message of a record with its exception, the last line of each; of a line that is no record, all."""
    try:
        told = json.loads(line)
    except ValueError:
        return line
    if not isinstance(told, dict) or "message" not in told:
        return line
    parts = (str(told.get(name, "")).strip().rpartition("\n")[2] for name in ("message", "exception"))
    return ": ".join(part for part in parts if part)
