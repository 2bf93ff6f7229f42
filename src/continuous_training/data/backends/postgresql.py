"""PostgreSQL through Ibis, with statements that hot standbys, connection poolers and Redshift allow too; and Redshift.

Redshift uses PostgreSQL's protocol, and Ibis has no backend for it. The differences are from Amazon's documentation: no
temporary views, no cursors (the leader node would hold the whole result of one, up to a limit of its node type), no
prepared statements, no aggregates with FILTER, results as text, another name for UTF-8. None of this was ever run on
Redshift itself: the tests run it against PostgreSQL, check every statement against this list, and translate the queries
with sqlglot's Redshift dialect and back.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import ibis.expr.datatypes as dt
import ibis.expr.schema as sch
import psycopg
import pyarrow as pa
import sqlglot.expressions as sge
from ibis.backends.postgres import Backend
from ibis.backends.sql.compilers.base import AggGen
from ibis.backends.sql.compilers.postgres import PostgresCompiler
from ibis.backends.sql.datatypes import PostgresType
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlglot.dialects import Redshift as RedshiftDialect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibis.expr.types import Expr

STATEMENT_MINUTES = 120  # a lock that is never released must not block a run forever
TIMEOUTS = {  # libpq's parameters, in seconds and milliseconds: a lost server is noticed within two minutes
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "6",
    "tcp_user_timeout": "90000",
}
CHUNK_ROWS = 5_000  # rows that psycopg reads from the connection at a time


class Postgresql(Backend):  # type: ignore[misc] # Ibis has no types
    """Ibis' backend with another way to connect, to find a query's columns, and to fetch."""

    port = "5432"
    binary = True  # half the time of text, and no digit of a number is lost

    def do_connect(self, url: str) -> None:
        """Connect to a libpq address, whose parameters take precedence; a schema may follow the database."""
        parameters = conninfo_to_dict(url)
        database, _, schema = str(parameters.pop("dbname", "")).partition("/")
        complete = {**TIMEOUTS, "port": self.port, **parameters, "dbname": database, "client_encoding": "utf8"}
        self.con = psycopg.connect(make_conninfo("", **complete), autocommit=True, prepare_threshold=None)
        session = {"timezone": "UTC", "search_path": schema}
        if "statement_timeout" not in str(parameters.get("options")):
            session["statement_timeout"] = str(STATEMENT_MINUTES * 60_000)
        for name, value in session.items():
            if value:
                self.con.execute(sql.SQL("SET {} TO {}").format(sql.Identifier(name), sql.Literal(value)))

    def get_schema(self, name: str, *, catalog: str | None = None, database: str | None = None) -> sch.Schema:
        """Return the columns of a table."""
        table = sge.table_(name, db=database, catalog=catalog, quoted=True)
        return self._get_schema_using_query(sge.select("*").from_(table).sql(self.dialect))

    def _get_schema_using_query(self, query: str) -> sch.Schema:
        """Run the query with LIMIT 0: the temporary view that Ibis would create needs a separate privilege."""
        empty = sge.subquery(query, "query", dialect=self.dialect).select("*").limit(0)
        columns = self.con.execute(empty.sql(self.dialect)).description or []
        return sch.Schema({column.name: _parse_type(column.type_display) for column in columns})

    def to_pyarrow_batches(
        self,
        expr: Expr,
        /,
        *,
        params: Any = None,  # noqa: ANN401
        limit: int | str | None = None,
        chunk_size: int = 100_000,
        **_: Any,  # noqa: ANN401
    ) -> pa.RecordBatchReader:
        """Stream rows from the connection; neither side holds the whole result in memory."""
        self._run_pre_execute_hooks(expr)
        schema = expr.as_table().schema()
        query = self.compile(expr, limit=limit, params=params)

        def batches() -> Iterator[pa.RecordBatch]:
            with self.con.cursor() as cursor:
                rows = cursor.stream(query, binary=self.binary, size=CHUNK_ROWS)
                while batch := list(islice(rows, chunk_size)):
                    yield pa.RecordBatch.from_struct_array(pa.array(batch, type=schema.as_struct().to_pyarrow()))

        return pa.RecordBatchReader.from_batches(schema.to_pyarrow(), batches())


class RedshiftCompiler(PostgresCompiler):  # type: ignore[misc]
    """Compiles the Ibis expressions of this project to Redshift's dialect."""

    __slots__ = ()
    dialect = RedshiftDialect
    agg = AggGen(supports_filter=False, supports_order_by=True)

    def visit_Hash(self, _: Any, *, arg: sge.Expression) -> Any:  # noqa: ANN401, N802 - Ibis' name
        """Hash a value; Redshift does not have PostgreSQL's newer hash functions."""
        return self.f.fnv_hash(arg)


class Redshift(Postgresql):
    """Redshift, through PostgreSQL's protocol."""

    compiler = RedshiftCompiler()
    port = "5439"
    binary = False

    def do_connect(self, url: str) -> None:
        """Connect as to PostgreSQL."""
        super().do_connect(url.replace("redshift://", "postgresql://", 1))


def _parse_type(name: str) -> dt.DataType:
    """Return the Ibis type for PostgreSQL's name of a type; user-defined types are reported by number, not by name."""
    return dt.unknown if name.isdigit() else PostgresType.from_string(name)
