"""A temporary PostgreSQL server on this machine, from Debian's package, with its own folder, port and password."""

from __future__ import annotations

import os
import pwd
import secrets
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from conftest import TIMEOUT
from ports import free_port

SERVER_USER = "nobody"  # PostgreSQL refuses to run as root


def _find_programs() -> Path | None:
    """Return the folder with the programs of the newest installed server."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(folders, key=lambda folder: int(folder.parent.name), default=None)


PROGRAMS = _find_programs()
needs_postgresql = pytest.mark.skipif(
    PROGRAMS is None, reason="PostgreSQL's server is not installed here: apt-get install postgresql"
)


class Postgresql:
    """An empty server; `url` is its database `postgres` for the superuser, with `password` in it."""

    def __init__(self) -> None:
        self.password = secrets.token_hex(16)
        self._port = free_port()
        self.url = f"postgresql://postgres:{self.password}@127.0.0.1:{self._port}/postgres"
        self._exit_stack = ExitStack()

    def __enter__(self) -> Self:
        # not pytest's folder, which only this user may enter
        folder = Path(self._exit_stack.enter_context(tempfile.TemporaryDirectory(prefix="postgresql-")))
        data, password, self.log = folder / "data", folder / "password", folder / "log"
        password.write_text(self.password)
        if os.geteuid() == 0:
            account = pwd.getpwnam(SERVER_USER)
            for path in (folder, password):
                os.chown(path, account.pw_uid, account.pw_gid)
        try:
            self._run("initdb", "--pgdata", data, "--username=postgres", "--auth=scram-sha-256", "--pwfile", password)
            self._start(data)
        except BaseException:
            self._exit_stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exit_stack.close()

    def _run(self, program: str, *arguments: str | Path) -> None:
        process = subprocess.run(_command(program, *arguments), capture_output=True, text=True, check=False)
        if process.returncode != 0:
            raise RuntimeError(f"{program}: {process.stderr}")

    def _start(self, data: Path) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "fsync": "off",  # the data is temporary
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                _command("postgres", "-D", data, *options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that Ctrl-C reaches the tests only, which then stop the server
            )
        self._exit_stack.callback(_stop, process)
        ready = _command("pg_isready", "--quiet", "--host=127.0.0.1", f"--port={self._port}")
        deadline = time.monotonic() + TIMEOUT
        while subprocess.run(ready, check=False).returncode != 0:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"postgres does not start: {self.log.read_text(errors='replace')}")
            time.sleep(0.05)


def _command(program: str, *arguments: str | Path) -> list[str | Path]:
    """Return the command line of a PostgreSQL program; root runs it as another user."""
    if PROGRAMS is None:
        raise RuntimeError("PostgreSQL's server is not installed")
    as_server_user = [
        "setpriv",
        f"--reuid={SERVER_USER}",
        f"--regid={pwd.getpwnam(SERVER_USER).pw_gid}",
        "--clear-groups",
    ]
    return [*(as_server_user if os.geteuid() == 0 else []), PROGRAMS / program, *arguments]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server without waiting for its clients."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    process.wait(TIMEOUT)
