"""The warehouse at CT_WAREHOUSE_URL: DuckDB by default, PostgreSQL, Redshift, Snowflake and BigQuery through Ibis.

All times are UTC: sessions are set to it, and a time with a zone is compared, and fetched, as the moment that it is.
"""

from __future__ import annotations

import importlib
import logging
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

from continuous_training.data import backends, duckdb_connection
from continuous_training.data.driver_errors import to_user_error
from continuous_training.errors import UserError
from continuous_training.extras import describe_missing
from continuous_training.urls import without_password

if TYPE_CHECKING:
    import duckdb
    from ibis.backends import BaseBackend

    from continuous_training.settings import Settings

log = logging.getLogger(__name__)

LOCKED = "Could not set lock on file"  # DuckDB's message while another process writes the file
LOCK_SECONDS = (1, 5, 25)  # pauses before it is opened again


class Server(NamedTuple):
    """A kind of warehouse server: a class of `backends/`, as `module:class`, and the extra that installs its driver."""

    backend: str
    extra: str


SERVERS = {  # by the scheme of the address
    "postgres": Server("postgresql:Postgresql", "postgres"),
    "postgresql": Server("postgresql:Postgresql", "postgres"),
    "redshift": Server("postgresql:Redshift", "redshift"),
    "snowflake": Server("snowflake:Snowflake", "snowflake"),
    "bigquery": Server("bigquery:BigQuery", "bigquery"),
}
DUCKDB = "duckdb"


def connect(settings: Settings) -> BaseBackend:
    """Open the warehouse for reading, through Ibis.

    Raises:
        ConnectionLostError: the warehouse does not respond, or rejects the user: some drivers do not distinguish these.
        UserError: the address is wrong, or the driver is not installed.
    """
    _fill_if_missing(settings)
    return connect_to(settings.warehouse_url)


def connect_to(url: str) -> BaseBackend:
    """Open the warehouse at an address for reading, through Ibis; raises as `connect` does."""
    scheme = _check_address(url)
    if scheme == DUCKDB:
        import ibis

        return ibis.duckdb.from_connection(_open_file(url))
    return _open_server(scheme, url)


def open_duckdb(settings: Settings) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file for reading only; DuckDB's settings may follow a question mark.

    The default file is filled with the sample first if it is missing.

    Raises:
        UserError: the file does not exist, or cannot be opened.
    """
    _fill_if_missing(settings)
    return _open_file(settings.warehouse_url)


def _fill_if_missing(settings: Settings) -> None:
    url = settings.warehouse_url
    if settings.sample and url == settings.warehouse and url.startswith(f"{DUCKDB}://"):
        path, _ = _split(url)
        if not path.exists():
            _fill(path, settings.sample)


def _split(url: str) -> tuple[Path, str]:
    """Return the file and the settings of a DuckDB address."""
    location, _, options = url.removeprefix(f"{DUCKDB}://").partition("?")
    return Path(location), options


def _open_file(url: str) -> duckdb.DuckDBPyConnection:
    path, options = _split(url)
    if not path.exists():
        raise UserError(f"the warehouse {url} does not exist: check CT_WAREHOUSE_URL")
    pauses = iter(LOCK_SECONDS)
    while True:
        try:
            return duckdb_connection.connect(str(path), dict(parse_qsl(options)))
        except Exception as error:
            pause = next(pauses, None) if LOCKED in str(error) else None
            if pause is None:
                raise to_user_error(f"the warehouse {_redact(url)} cannot be opened", error) from error
            log.warning("Another process writes the warehouse %s; it is opened again in %s s", _redact(url), pause)
            time.sleep(pause)


def _check_address(url: str) -> str:
    """Return the scheme of a warehouse's address.

    Raises:
        UserError: the address is malformed, or its scheme is unknown.
    """
    scheme, _, rest = url.partition("://")
    if scheme != DUCKDB and re.search(r"[\s/?#@]", rest.rpartition("@")[0]):  # drivers would show what they misread
        raise UserError(
            "the warehouse's address has characters before its last @ that must be written as %20, %2F, %40 there"
        )
    if scheme not in {DUCKDB, *SERVERS}:
        schemes = ", ".join(f"{name}://" for name in (DUCKDB, *SERVERS))
        raise UserError(f"the warehouse {_redact(url)} is of an unknown kind; supported are {schemes}")
    return scheme


def _redact(url: str) -> str:
    """Return an address for messages: without its password, and without its parameters, which may contain one."""
    return without_password(url.partition("?")[0])


def _open_server(scheme: str, url: str) -> BaseBackend:
    """Connect to a warehouse server."""
    module, _, backend = SERVERS[scheme].backend.partition(":")
    try:
        connection: BaseBackend = getattr(importlib.import_module(f"{backends.__name__}.{module}"), backend)().connect(
            url
        )
    except UserError:
        raise
    except ImportError as error:
        problem = describe_missing(error, SERVERS[scheme].extra)
        raise UserError(f"for a warehouse at {scheme}://, {problem}") from error
    except Exception as error:
        raise to_user_error(f"the warehouse {_redact(url)} cannot be opened", error) from error
    return connection


def _fill(path: Path, sample: str) -> None:
    """Fill a new DuckDB file beside the final one and rename it, so that no other process sees an incomplete file."""
    import ibis

    log.info("Filling the sample warehouse %s, once", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f".{path.name}.unfinished")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        module, _, function = sample.partition(":")
        backend = ibis.duckdb.connect(folder / path.name)
        getattr(importlib.import_module(module), function)(backend)
        backend.disconnect()
        (folder / path.name).replace(path)
    except ImportError as error:
        problem = describe_missing(error, "example")
        raise UserError(f"the sample {sample} cannot be loaded: {problem}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
