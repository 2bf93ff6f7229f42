"""Where rows go: the warehouse's address, in the words of PyAirbyte, which calls a warehouse a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import ParseResult, parse_qsl, quote, unquote, unquote_plus, urlparse

from pydantic import Field

from continuous_training.data.warehouse import DUCKDB
from continuous_training.documents import Value
from continuous_training.errors import UserError
from continuous_training.urls import without_password

LIBPQ = {  # what PyAirbyte does not pass on, its driver reads from these variables
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "options": "PGOPTIONS",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
}


class Destination(Value):
    """A cache of PyAirbyte, what it is made with, and the variables that its driver reads."""

    cache: Literal["DuckDBCache", "PostgresCache", "SnowflakeCache", "BigQueryCache"]
    arguments: dict[str, str | int]
    environment: dict[str, str] = Field(default_factory=dict)


def of(address: str, schema: str | None) -> Destination:
    """Translate an address; the schema, if none is named, is the one in which the address reads.

    Raises:
        UserError: something of the address is missing, or PyAirbyte cannot write there.
    """
    if address.startswith(DUCKDB):
        path = Path(address.removeprefix(f"{DUCKDB}://").partition("?")[0]).absolute()
        return Destination(cache="DuckDBCache", arguments={"db_path": str(path), "schema_name": schema or "main"})
    url = urlparse(address)
    match url.scheme:
        case "postgres" | "postgresql":
            return _postgres(url, schema)
        case "snowflake":
            return _snowflake(url, schema)
        case "bigquery":
            project, dataset = url.netloc, schema or url.path.strip("/")
            _complete(address, project=project, dataset=dataset)
            return Destination(cache="BigQueryCache", arguments={"project_name": project, "dataset_name": dataset})
    raise UserError(
        f"PyAirbyte cannot write to {without_password(address)}, only to DuckDB, PostgreSQL, Snowflake and BigQuery:"
        " let an Airbyte server do it"
    )


def _postgres(url: ParseResult, schema: str | None) -> Destination:
    asked = dict(parse_qsl(url.query))
    database, _, within = url.path.strip("/").partition("/")
    within = schema or asked.pop("schema", "") or within or "public"
    if unknown := sorted(asked.keys() - LIBPQ.keys()):
        raise UserError(f"the warehouse's address says {unknown[0]}, which cannot be passed on to PyAirbyte")
    _complete(url.geturl(), host=url.hostname, database=database, user=url.username)
    return Destination(
        cache="PostgresCache",
        arguments={
            "host": url.hostname or "",
            "port": url.port or 5432,
            "database": database,
            "username": quote(unquote(url.username or ""), safe=""),  # PyAirbyte makes an address of them again
            "password": quote(unquote_plus(url.password or ""), safe=""),
            "schema_name": within,
        },
        environment={LIBPQ[name]: value for name, value in asked.items()},
    )


def _snowflake(url: ParseResult, schema: str | None) -> Destination:
    asked = dict(parse_qsl(url.query))
    database, _, within = url.path.strip("/").partition("/")
    arguments: dict[str, str | int] = {
        "account": url.hostname or "",
        "username": unquote(url.username or ""),
        "password": unquote_plus(url.password or ""),
        "database": database,
        "schema_name": schema or within,
        "warehouse": asked.get("warehouse", ""),
        "role": asked.get("role", ""),
    }
    _complete(url.geturl(), **arguments)
    return Destination(cache="SnowflakeCache", arguments=arguments)


def _complete(address: str, **parts: str | int | None) -> None:
    if missing := [name.replace("_name", "") for name, value in parts.items() if not value]:
        raise UserError(f"the warehouse's address {without_password(address)} does not say its {' and '.join(missing)}")
