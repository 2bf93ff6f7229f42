"""The destination of a sync: the warehouse's address as arguments of PyAirbyte, which calls a warehouse a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import ParseResult, parse_qsl, quote, unquote, unquote_plus, urlparse

from pydantic import Field

from continuous_training.data.warehouse import DUCKDB
from continuous_training.documents import Value
from continuous_training.errors import UserError
from continuous_training.urls import without_password

LIBPQ = {  # PyAirbyte does not pass these parameters on; its driver reads them from environment variables
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "options": "PGOPTIONS",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
}


class Destination(Value):
    """A PyAirbyte cache class, its constructor's arguments, and the environment variables for its driver."""

    cache: Literal["DuckDBCache", "PostgresCache", "SnowflakeCache", "BigQueryCache"]
    arguments: dict[str, str | int]
    environment: dict[str, str] = Field(default_factory=dict)


def parse_destination(address: str, schema: str | None) -> Destination:
    """Translate a warehouse's address.

    Args:
        address: the address, as in CT_WAREHOUSE_URL.
        schema: the schema to write to; None means the one that queries at this address read by default.

    Raises:
        UserError: a part of the address is missing, or PyAirbyte cannot write to this kind of warehouse.
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
            _require(address, project=project, dataset=dataset)
            return Destination(cache="BigQueryCache", arguments={"project_name": project, "dataset_name": dataset})
    raise UserError(
        f"PyAirbyte cannot write to {without_password(address)}, only to DuckDB, PostgreSQL, Snowflake and BigQuery:"
        " use an Airbyte server for this warehouse"
    )


def _postgres(url: ParseResult, schema: str | None) -> Destination:
    options = dict(parse_qsl(url.query))
    database, _, default_schema = url.path.strip("/").partition("/")
    schema = schema or options.pop("schema", "") or default_schema or "public"
    if unknown := sorted(options.keys() - LIBPQ.keys()):
        raise UserError(f"the warehouse's address has the option {unknown[0]}, which PyAirbyte does not support")
    _require(url.geturl(), host=url.hostname, database=database, user=url.username)
    return Destination(
        cache="PostgresCache",
        arguments={
            "host": url.hostname or "",
            "port": url.port or 5432,
            "database": database,
            "username": quote(unquote(url.username or ""), safe=""),  # PyAirbyte puts them into a URL again
            "password": quote(unquote_plus(url.password or ""), safe=""),
            "schema_name": schema,
        },
        environment={LIBPQ[name]: value for name, value in options.items()},
    )


def _snowflake(url: ParseResult, schema: str | None) -> Destination:
    options = dict(parse_qsl(url.query))
    database, _, default_schema = url.path.strip("/").partition("/")
    arguments: dict[str, str | int] = {
        "account": url.hostname or "",
        "username": unquote(url.username or ""),
        "password": unquote_plus(url.password or ""),
        "database": database,
        "schema_name": schema or default_schema,
        "warehouse": options.get("warehouse", ""),
        "role": options.get("role", ""),
    }
    _require(url.geturl(), **arguments)
    return Destination(cache="SnowflakeCache", arguments=arguments)


def _require(address: str, **parts: str | int | None) -> None:
    if missing := [name.replace("_name", "") for name, value in parts.items() if not value]:
        raise UserError(f"the warehouse's address {without_password(address)} has no {' or '.join(missing)}")
