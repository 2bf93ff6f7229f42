"""The warehouse, behind one Ibis address: DuckDB by default, the same query for every other."""

from __future__ import annotations

import importlib
import logging
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.problem import Problem

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa
    from ibis.backends import BaseBackend
    from ibis.expr.types import Table

    from continuous_training.settings import Settings

log = logging.getLogger(__name__)

BATCH_ROWS = 100_000
DUCKDB = "duckdb://"


def connect(settings: Settings) -> BaseBackend:
    """Open the warehouse for reading; the default one is filled with the sample first if its file is missing.

    Raises:
        Problem: the address is wrong, the driver is not installed, or nothing answers.
    """
    import ibis  # a second that only the stages which ask the warehouse pay

    url = settings.warehouse_url
    if url.startswith(DUCKDB):
        path = Path(url.removeprefix(DUCKDB).partition("?")[0])
        if not path.exists() and url == settings.warehouse and settings.sample:
            _fill(path, settings.sample)
        if not path.exists():
            raise Problem(f"the warehouse {url} is not there: check CT_WAREHOUSE_URL")
    try:
        if url.startswith(DUCKDB):
            return ibis.duckdb.connect(path, read_only=True)
        return ibis.connect(url)
    except Exception as error:
        said = without_password(f"the warehouse {url} cannot be opened: {_first_line(error)}")
        raise Problem(said) from error


def rows(warehouse: BaseBackend, query: str, since: datetime, until: datetime) -> Table:
    """Bind the query's $since and $until (UTC, without a zone) and translate it for this warehouse.

    Nothing is fetched yet, but the warehouse is asked which columns will come.

    Raises:
        Problem: the query is not SQL, has other placeholders, or names a table or column that is not there.
    """
    import sqlglot
    from sqlglot import exp

    bounds = {"since": since, "until": until}

    def bound(node: exp.Expression) -> exp.Expression:
        if not isinstance(node, exp.Placeholder):
            return node
        if node.name not in bounds:
            raise Problem(f"the query has ${node.name}; only $since and $until are bound")
        return exp.cast(exp.Literal.string(bounds[node.name].isoformat(sep=" ")), "timestamp")

    try:
        statement = sqlglot.parse_one(query, dialect="duckdb")
    except sqlglot.ParseError as error:
        raise Problem(f"the query in training.yaml is not SQL: {_first_line(error)}") from error
    missing = bounds.keys() - {found.name for found in statement.find_all(exp.Placeholder)}
    if missing:
        raise Problem(f"the query never uses ${min(missing)}: without it AS_OF cannot cut the data")
    try:
        return warehouse.sql(statement.transform(bound).sql(dialect="duckdb"), dialect="duckdb")
    except Problem:
        raise
    except Exception as error:
        raise Problem(f"the warehouse refuses the query: {_first_line(error)}") from error


def stream(table: Table) -> pa.RecordBatchReader:
    """Fetch the rows in batches, so that memory does not grow with the table."""
    try:
        return table.to_pyarrow_batches(chunk_size=BATCH_ROWS)
    except Exception as error:
        raise Problem(f"the warehouse gave up during the query: {_first_line(error)}") from error


def without_password(text: str) -> str:
    """Return an address, or a text with addresses in it, as it may be shown."""
    return re.sub(r"://([^:/@\s]*):[^@\s]+@", r"://\1:****@", text)


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
        raise Problem(f"the sample {sample} cannot be loaded: {error}; pip install '.[example]'") from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _first_line(error: Exception) -> str:
    """Return what a driver says without passwords, its hints and the colour codes that sqlglot underlines with."""
    plain = without_password(re.sub(r"\x1b\[\d*m", "", str(error))).strip()
    return plain.splitlines()[0] if plain else type(error).__name__
