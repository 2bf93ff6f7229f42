"""The workspace of a replay: the user's code, with documents, a registry and a server of its own.

Whatever it starts carries a cookie in its environment, by which it is found and ended, even after a kill -9.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from continuous_training.data.sources.files import BASE_URL, resolve_base
from continuous_training.data.warehouse import DUCKDB
from continuous_training.documents import write_atomically
from continuous_training.errors import UserError
from continuous_training.replay.months import PATTERN, Month
from continuous_training.settings import STATE
from jenkinsfile.builds.processes import terminate_matching

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

FOLDER = STATE / "replay"
LINKED = ("src", "scripts", "tests", "MLproject", "pyproject.toml", "requirements.lock")
LEARNT_FROM = ("src/continuous_training", "scripts", "MLproject", "requirements.lock")
COOKIE = "CT_REPLAY"
MONTHS = Path("months")
DATABASE = STATE / "mlflow.db"
OF_OTHERS = {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "BRANCH_NAME", "BUILD_URL", "GIT_COMMIT"}


def absolute(url: str) -> str:
    """Return a warehouse's address as it holds in any folder."""
    scheme, _, path = url.partition("://")
    return f"{scheme}://{Path(path).resolve()}" if scheme == DUCKDB else url


def identity(model: str, first: datetime, warehouse_url: str) -> str:
    """Hash all that a month's result depends on, so that no month is kept for other code than made it."""
    addresses = f"{warehouse_url}\0{os.environ.get(BASE_URL, '')}"
    digest = hashlib.sha256(f"{model}\0{first:{PATTERN}}\0{addresses}".encode())
    for part in (Path("src", model), Path("tests", model), *map(Path, LEARNT_FROM)):
        for path in sorted([part, *part.rglob("*")]):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"\0{path.as_posix()}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def entered(
    model: str, name: str, warehouse_url: str, *, fresh: bool, also: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Path]:
    """Make this process work in the workspace of that name; yields its folder, and ends all that was started there.

    A workspace within another bears the other's cookie: what ends the one ends the other.

    Args:
        model: the model package.
        name: the replay's identity.
        warehouse_url: the warehouse, as it holds in any folder.
        fresh: forget what an earlier replay of this identity has done.
        also: what else its environment has.

    Raises:
        UserError: another process is in it.
    """
    folder = (FOLDER / name).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"this replay runs already, in {folder}: wait for it or end it") from None
        mark = {COOKIE: os.environ.get(COOKIE) or str(folder)}
        terminate_matching(mark)  # what a killed replay left behind still works in these files
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        _link(folder)
        of_a_run = {
            "MODEL": model,
            "CT_WAREHOUSE_URL": warehouse_url,
            BASE_URL: resolve_base(),
            "SERVING_URLS": _free_address(),
            "PYTHONPATH": str(folder / "src"),
            "COMPUTE": "local",
            "FORCE": "false",
            "ROLLBACK": "false",
            "PROMOTE": "auto",
            "TRIGGER": "cron",
        }
        with _environment(of_a_run | dict(also) | mark), contextlib.chdir(folder):
            try:
                yield folder
            finally:
                terminate_matching(mark)


def finished(folder: Path = MONTHS) -> dict[str, Month]:
    """Return the months that are done, in their order."""
    return {path.stem: Month.model_validate_json(path.read_bytes()) for path in sorted(folder.glob("*.json"))}


def keep(month: Month, folder: Path = MONTHS, database: Path = DATABASE) -> None:
    """Write down a finished month, after MLflow's state at its end: a month that is there can be gone on from."""
    folder.mkdir(exist_ok=True)
    name = month.made.month
    _copy(database, folder / f"{name}.db")
    write_atomically(folder / f"{name}.json", month.model_dump_json(indent=1) + "\n")


def restore(last: str | None) -> None:
    """Put MLflow back to the end of a finished month (None: to before the first), as if what came after never was."""
    put_back(MONTHS / f"{last}.db" if last else ":memory:")


def put_back(state: Path | str) -> None:
    """Put MLflow back to a state that was kept."""
    STATE.mkdir(exist_ok=True)
    _copy(state, DATABASE)


def _copy(source: Path | str, target: Path) -> None:
    """Copy a SQLite database over another, which may be open elsewhere or half-written."""
    with closing(sqlite3.connect(source)) as database, closing(sqlite3.connect(target)) as copy:
        database.backup(copy)


def _link(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in LINKED:
        if Path(name).exists() and not (folder / name).is_symlink():
            (folder / name).symlink_to(Path(name).resolve())


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def _environment(changed: dict[str, str]) -> Iterator[None]:
    """Change the environment of this process and of those that it starts, and put it back."""
    before = dict(os.environ)
    for name in OF_OTHERS:
        os.environ.pop(name, None)
    os.environ.update(changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
