"""The warehouse, behind one Ibis address: DuckDB by default, the same query for every other.

All times are UTC: sessions are set to it, and a time with a zone is compared, and fetched, as the moment that it is.
"""

from __future__ import annotations

import importlib
import logging
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from continuous_training.errors import UserError
from continuous_training.urls import without_password

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import ibis.expr.datatypes as dt
    import pyarrow as pa
    from ibis.backends import BaseBackend
    from ibis.expr.types import Table

    from continuous_training.settings import Settings

log = logging.getLogger(__name__)

BATCH_VALUES = 500_000
EXTRAS = {  # what pip installs for an address, by how that begins
    "postgres": "postgres",
    "postgresql": "postgres",
    "redshift": "redshift",
    "snowflake": "snowflake",
    "bigquery": "bigquery",
}
DUCKDB = "duckdb"
HERE = {"duckdb", "_duckdb"}  # modules of a driver whose warehouse is a file: nothing of it comes back by itself
SPARING: dict[str, str | int] = {"memory_limit": "128MB", "threads": 4}  # DuckDB would keep what it has read
TOO_LONG = "57014"  # PostgreSQL's word for a statement that was given up: the next one would take as long


class ConnectionLostError(UserError):
    """The warehouse went away while it was asked: to ask once more may help."""


def connect(settings: Settings) -> BaseBackend:
    """Open the warehouse for reading; the default one is filled with the sample first if its file is missing.

    Raises:
        ConnectionLostError: nothing answers there, or the user is refused, which some drivers cannot tell apart.
        UserError: the address is wrong, or the driver is not installed.
    """
    url = settings.warehouse_url
    kind, _, rest = url.partition("://")
    if kind != DUCKDB and re.search(r"[\s/?#@]", rest.rpartition("@")[0]):  # drivers would show what they misread
        raise UserError(
            "the warehouse's address has signs before its last @ that must be written as %20, %2F, %40 there"
        )
    shown = without_password(url.partition("?")[0])  # there may be a password after it too
    if kind not in {DUCKDB, *EXTRAS}:
        known = ", ".join(f"{name}://" for name in (DUCKDB, *EXTRAS))
        raise UserError(f"the warehouse {shown} is of no kind that is known here: {known}")
    try:
        return _duckdb(settings, url) if kind == DUCKDB else _opened(kind, url)
    except UserError:
        raise
    except ImportError as error:
        needed = f"pip install '.[{EXTRAS[kind]}]'"
        raise UserError(f"for a warehouse at {kind}://, {error.name} is not installed: {needed}") from error
    except Exception as error:
        raise _problem(f"the warehouse {shown} cannot be opened", error) from error


def rows(warehouse: BaseBackend, query: str, since: datetime, until: datetime) -> Table:
    """Have the query for a window as a table of this warehouse's, in whose words Ibis puts it.

    Nothing is fetched yet, but the warehouse is asked which columns will come. Types that only some warehouses have
    become texts, and decimals of no certain width the nearest doubles.

    Raises:
        ConnectionLostError: the warehouse went away.
        UserError: the query is not SQL, has other placeholders, or names what is not there or not for this user.
    """
    asked = bound(query, since, until)
    try:
        table = warehouse.sql(asked, dialect=DUCKDB)
        return table.cast({name: wanted for name, kind in table.schema().items() if (wanted := _portable(kind))})
    except Exception as error:
        raise _problem("the warehouse refuses the query", error) from error


def bound(query: str, since: datetime, until: datetime) -> str:
    """Bind the query's $since and $until, in UTC without a zone.

    Raises:
        UserError: the query is not SQL, or has other placeholders, or not these.
    """
    import sqlglot
    from sqlglot import exp

    bounds = {"since": since, "until": until}

    def one(node: exp.Expression) -> exp.Expression:
        if not isinstance(node, exp.Placeholder):
            return node
        if node.name not in bounds:
            raise UserError(f"the query has ${node.name}; only $since and $until are bound")
        return exp.cast(exp.Literal.string(bounds[node.name].isoformat(sep=" ")), "timestamp")

    try:
        statement = sqlglot.parse_one(query, dialect=DUCKDB)
    except sqlglot.ParseError as error:
        raise UserError(f"the query in training.yaml is not SQL: {_first_line(error)}") from error
    missing = bounds.keys() - {found.name for found in statement.find_all(exp.Placeholder)}
    if missing:
        raise UserError(f"the query never uses ${min(missing)}: without it AS_OF cannot cut the data")
    return statement.transform(one).sql(dialect=DUCKDB)


def stream(table: Table) -> pa.RecordBatchReader:
    """Fetch the rows in batches, so that memory does not grow with the table; of a wide one fewer at a time.

    Reading on raises what asking does.

    Raises:
        ConnectionLostError: the warehouse went away.
        UserError: it gave up.
    """
    import pyarrow as pa

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except Exception as error:
            raise _problem("the warehouse gave up during the query", error) from error

    try:
        reader = table.to_pyarrow_batches(chunk_size=max(1, BATCH_VALUES // len(table.columns)))
    except Exception as error:
        raise _problem("the warehouse gave up during the query", error) from error
    return pa.RecordBatchReader.from_batches(reader.schema, batches())


def _duckdb(settings: Settings, url: str) -> BaseBackend:
    """Open a file, for reading only: others read it too. DuckDB's settings may follow a question mark."""
    import ibis  # a second that only the stages which ask the warehouse pay

    where, _, message = url.removeprefix(f"{DUCKDB}://").partition("?")
    path = Path(where)
    if not path.exists() and url == settings.warehouse and settings.sample:
        _fill(path, settings.sample)
    if not path.exists():
        raise UserError(f"the warehouse {url} is not there: check CT_WAREHOUSE_URL")
    source = ibis.duckdb.connect(path, read_only=True)
    for name, value in {**SPARING, **dict(parse_qsl(message))}.items():
        source.settings[name] = value
    return source


def _opened(kind: str, url: str) -> BaseBackend:
    """Open one that a server has."""
    if kind == "snowflake":
        from continuous_training.data.backends.snowflake import Snowflake

        return Snowflake().connect(url)
    if kind == "bigquery":
        from continuous_training.data.backends.bigquery import BigQuery

        return BigQuery().connect(url)
    from continuous_training.data.backends.postgresql import Postgresql, Redshift

    return (Redshift() if kind == "redshift" else Postgresql()).connect(url)


def _portable(kind: dt.DataType) -> str | None:
    """Return the type to have a column as, if its own is not one that Parquet files of all warehouses share."""
    if kind.is_decimal() and kind.precision is None:
        return "float64"
    return "string" if kind.is_unknown() or kind.is_uuid() or kind.is_json() or kind.is_inet() else None


def _fill(path: Path, sample: str) -> None:
    """Fill a new DuckDB file beside the wanted one and rename it, so that no half-filled warehouse is ever seen."""
    import ibis

    log.info("Filling the sample warehouse %s, once", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    workshop = path.with_name(f".{path.name}.unfinished")
    shutil.rmtree(workshop, ignore_errors=True)
    workshop.mkdir()
    try:
        module, _, function = sample.partition(":")
        warehouse = ibis.duckdb.connect(workshop / path.name)
        getattr(importlib.import_module(module), function)(warehouse)
        warehouse.disconnect()
        (workshop / path.name).replace(path)
    except ImportError as error:
        raise UserError(f"the sample {sample} cannot be loaded: {error}; pip install '.[example]'") from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _problem(message: str, error: Exception) -> UserError:
    """Tell what a driver raised; that a warehouse went away is known by the name that all drivers have for it."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    away = isinstance(error, OSError) or any(name == "OperationalError" and at not in HERE for at, name in kinds)
    kind = ConnectionLostError if away and getattr(error, "sqlstate", None) != TOO_LONG else UserError
    return kind(f"{message}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    """Return what a driver says without passwords, its hints and the colour codes that sqlglot underlines with."""
    plain = without_password(re.sub(r"\x1b\[\d*m", "", str(error))).strip()
    first, *more = plain.splitlines() or [type(error).__name__]
    return f"{first} {more[0].strip()}" if first.endswith(":") and more else first
