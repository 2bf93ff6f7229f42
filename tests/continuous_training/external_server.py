"""Servers in separate environments, whose packages conflict with this project's."""

from __future__ import annotations

import signal
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT, TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def run_server(python: Path, program: str, *arguments: str, port: int) -> Iterator[None]:
    """Run a program of this repository that serves a port."""
    process = subprocess.Popen(
        [python, ROOT / program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches only the tests, which then end the server
    )

    def listens() -> bool:
        if process.poll() is not None:
            pytest.fail(f"{program} ended: {process.stderr.read() if process.stderr else ''}")
        with socket.socket() as attempt:
            return attempt.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, f"{program} listens")
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=TIMEOUT)
