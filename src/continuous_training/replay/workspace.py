"""The workspace of a replay: links to the user's code, with separate documents, a separate registry and server.

All processes that are started in it have a marker in their environment, by which they are found and ended even after
the replay was killed.
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
from continuous_training.fork_server.client import COOKIE
from continuous_training.replay.month_results import MonthResult
from continuous_training.replay.months import MONTH_FORMAT
from continuous_training.settings import STATE
from continuous_training.versions import signing
from jenkinsfile.builds.processes import terminate_matching

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

FOLDER = STATE / "replay"
LINKED_PATHS = ("src", "scripts", "tests", "MLproject", "pyproject.toml", "requirements.lock")
CODE = ("src/continuous_training", "scripts", "MLproject", "requirements.lock")
MARKER = "CT_REPLAY"
MONTHS = Path("months")
DATABASE = STATE / "mlflow.db"
UNSET = {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "BRANCH_NAME", "BUILD_URL", "GIT_COMMIT"}


def absolute_url(url: str) -> str:
    """Return a warehouse's address that is valid in any folder."""
    scheme, _, path = url.partition("://")
    return f"{scheme}://{Path(path).resolve()}" if scheme == DUCKDB else url


def replay_id(model: str, first: datetime, warehouse_url: str) -> str:
    """Return the hash of everything that a month's result depends on: a finished month is valid only for its code."""
    addresses = f"{warehouse_url}\0{os.environ.get(BASE_URL, '')}"
    digest = hashlib.sha256(f"{model}\0{first:{MONTH_FORMAT}}\0{addresses}".encode())
    for part in (Path("src", model), Path("tests", model), *map(Path, CODE)):
        for path in sorted([part, *part.rglob("*")]):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"\0{path.as_posix()}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def enter_workspace(
    model: str, name: str, warehouse_url: str, *, fresh: bool, extra_variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Path]:
    """Change into the workspace of this name and yield its folder; end all processes of the workspace at the end.

    A workspace inside another one has the same marker, so that both end together.

    Args:
        model: the model package.
        name: the replay's id.
        warehouse_url: the warehouse, valid in any folder.
        fresh: remove the results of an earlier replay with this id.
        extra_variables: further environment variables.

    Raises:
        UserError: another process uses the workspace.
    """
    folder = (FOLDER / name).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"this replay is already running in {folder}: wait for it or end it") from None
        marker = {MARKER: os.environ.get(MARKER) or str(folder)}
        terminate_matching(marker)  # processes of a killed replay still use these files
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        _link(folder)
        signing.share_key(folder)
        variables = {
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
        cookie = {COOKIE: os.environ.get(COOKIE) or str(folder)}  # for the fork server of the stages
        with _environment(variables | dict(extra_variables) | marker | cookie), contextlib.chdir(folder):
            try:
                yield folder
            finally:
                terminate_matching(marker)


def read_months(folder: Path = MONTHS) -> dict[str, MonthResult]:
    """Return the finished months in chronological order, by name."""
    return {path.stem: MonthResult.model_validate_json(path.read_bytes()) for path in sorted(folder.glob("*.json"))}


def save_month(month: MonthResult, folder: Path = MONTHS, database: Path = DATABASE) -> None:
    """Store a finished month after a copy of MLflow's database: the replay can continue from a stored month."""
    folder.mkdir(exist_ok=True)
    name = month.run.month
    _copy_database(database, folder / f"{name}.db")
    write_atomically(folder / f"{name}.json", month.model_dump_json(indent=1) + "\n")


def restore_database(last: str | None) -> None:
    """Reset MLflow's database to its state at the end of a finished month (None: before the first month)."""
    replace_database(MONTHS / f"{last}.db" if last else ":memory:")


def replace_database(source: Path | str) -> None:
    """Replace MLflow's database by a copy."""
    STATE.mkdir(exist_ok=True)
    _copy_database(source, DATABASE)


def _copy_database(source: Path | str, target: Path) -> None:
    """Copy a SQLite database over another one, which may be open elsewhere or incomplete."""
    with closing(sqlite3.connect(source)) as database, closing(sqlite3.connect(target)) as copy:
        database.backup(copy)


def _link(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in LINKED_PATHS:
        if Path(name).exists() and not (folder / name).is_symlink():
            (folder / name).symlink_to(Path(name).resolve())


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Change the environment of this process and of those that it starts, and restore it afterwards."""
    before = dict(os.environ)
    for name in UNSET:
        os.environ.pop(name, None)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
