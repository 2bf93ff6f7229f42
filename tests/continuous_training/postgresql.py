"""A PostgreSQL server of this machine, from Debian's package, with a folder, a port and a password of its own."""

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

from server import free_port

PATIENCE = 60  # seconds
NOBODY = "nobody"  # PostgreSQL refuses to be root


def _programs() -> Path | None:
    """Return where the newest installed server's programs are."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda folder: int(folder.parent.name), default=None)


PROGRAMS = _programs()
needs_postgresql = pytest.mark.skipif(
    PROGRAMS is None, reason="PostgreSQL's server is not installed here: apt-get install postgresql"
)


class Postgresql:
    """An empty server; `url` is its database `postgres` as its superuser, `password` is in it."""

    def __init__(self) -> None:
        self.password = secrets.token_hex(16)
        self._port = free_port()
        self.url = f"postgresql://postgres:{self.password}@127.0.0.1:{self._port}/postgres"
        self._up = ExitStack()

    def __enter__(self) -> Self:
        # not pytest's folder, which only this user may enter
        folder = Path(self._up.enter_context(tempfile.TemporaryDirectory(prefix="postgresql-")))
        rows, password, self.log = folder / "rows", folder / "password", folder / "log"
        password.write_text(self.password)
        if os.geteuid() == 0:
            account = pwd.getpwnam(NOBODY)
            for path in (folder, password):
                os.chown(path, account.pw_uid, account.pw_gid)
        try:
            self._run("initdb", "--pgdata", rows, "--username=postgres", "--auth=scram-sha-256", "--pwfile", password)
            self._serve(rows)
        except BaseException:
            self._up.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._up.close()

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(_command(program, *arguments), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr}")

    def _serve(self, rows: Path) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "fsync": "off",  # what it holds is thrown away
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                _command("postgres", "-D", rows, *options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests: they end it when they have ended
            )
        self._up.callback(_stop, process)
        ready = _command("pg_isready", "--quiet", "--host=127.0.0.1", f"--port={self._port}")
        patience = time.monotonic() + PATIENCE
        while subprocess.run(ready, check=False).returncode != 0:
            if process.poll() is not None or time.monotonic() > patience:
                raise RuntimeError(f"postgres does not start: {self.log.read_text(errors='replace')}")
            time.sleep(0.05)


def _command(program: str, *arguments: str | Path) -> list[str | Path]:
    """Return a command of PostgreSQL's, as somebody else if this is root."""
    if PROGRAMS is None:
        raise RuntimeError("PostgreSQL's server is not installed")
    other = ["setpriv", f"--reuid={NOBODY}", f"--regid={pwd.getpwnam(NOBODY).pw_gid}", "--clear-groups"]
    return [*(other if os.geteuid() == 0 else []), PROGRAMS / program, *arguments]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it without waiting for its clients."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    process.wait(PATIENCE)
