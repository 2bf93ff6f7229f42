"""PostgreSQL as Ibis has it, read in ways that hot standbys, poolers and Redshift allow too; and Redshift, by these.

Redshift speaks PostgreSQL's protocol, and Ibis has no backend of its own for it. What differs is told here, from
Amazon's documentation: no temporary views, no cursors (the leader node would keep the whole result for one, up to a
limit of its node type), no prepared statements, no aggregates with FILTER, results as text, its own name for UTF-8. No
line of this was ever run on Redshift itself: the tests run it against PostgreSQL, hold every statement that is sent
against this list, and have the queries translated by sqlglot's Redshift dialect and back.
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

STATEMENT_MINUTES = 120  # a lock that is never let go shall not hold a run for ever
PATIENCE = {  # libpq's words, in seconds and milliseconds: a server that has gone is noticed within two minutes
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "6",
    "tcp_user_timeout": "90000",
}
PASSED_ON = 5_000  # rows that psycopg takes from the connection at a time


class Postgresql(Backend):  # type: ignore[misc] # Ibis has no types
    """Ibis' backend, but for how it connects, learns the columns of a query, and fetches."""

    port = "5432"
    binary = True  # half the time, and no digit lost on the way

    def do_connect(self, url: str) -> None:
        """Connect to a libpq address, which may name a schema after the database; what it says itself is left so."""
        given = conninfo_to_dict(url)
        database, _, schema = str(given.pop("dbname", "")).partition("/")
        known = {**PATIENCE, "port": self.port, **given, "dbname": database, "client_encoding": "utf8"}
        self.con = psycopg.connect(make_conninfo("", **known), autocommit=True, prepare_threshold=None)
        wanted = {"timezone": "UTC", "search_path": schema}
        if "statement_timeout" not in str(given.get("options")):
            wanted["statement_timeout"] = str(STATEMENT_MINUTES * 60_000)
        for name, value in wanted.items():
            if value:
                self.con.execute(sql.SQL("SET {} TO {}").format(sql.Identifier(name), sql.Literal(value)))

    def get_schema(self, name: str, *, catalog: str | None = None, database: str | None = None) -> sch.Schema:
        """Ask which columns a table has."""
        table = sge.table_(name, db=database, catalog=catalog, quoted=True)
        return self._get_schema_using_query(sge.select("*").from_(table).sql(self.dialect))

    def _get_schema_using_query(self, query: str) -> sch.Schema:
        """Have no rows of it, without the temporary view that Ibis would make: that is a right of its own."""
        asked = sge.subquery(query, "asked", dialect=self.dialect).select("*").limit(0)
        found = self.con.execute(asked.sql(self.dialect)).description or []
        return sch.Schema({column.name: _kind(column.type_display) for column in found})

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
        """Take rows as they come over the connection; neither side keeps the result."""
        self._run_pre_execute_hooks(expr)
        schema = expr.as_table().schema()
        query = self.compile(expr, limit=limit, params=params)

        def batches() -> Iterator[pa.RecordBatch]:
            with self.con.cursor() as cursor:
                rows = cursor.stream(query, binary=self.binary, size=PASSED_ON)
                while batch := list(islice(rows, chunk_size)):
                    yield pa.RecordBatch.from_struct_array(pa.array(batch, type=schema.as_struct().to_pyarrow()))

        return pa.RecordBatchReader.from_batches(schema.to_pyarrow(), batches())


class RedshiftCompiler(PostgresCompiler):  # type: ignore[misc]
    """Ibis' expressions in Redshift's dialect, as far as this project has any."""

    __slots__ = ()
    dialect = RedshiftDialect
    agg = AggGen(supports_filter=False, supports_order_by=True)

    def visit_Hash(self, _: Any, *, arg: sge.Expression) -> Any:  # noqa: ANN401, N802 - Ibis' name
        """Hash a value; PostgreSQL's functions for that are younger than Redshift."""
        return self.f.fnv_hash(arg)


class Redshift(Postgresql):
    """Redshift, through PostgreSQL's protocol."""

    compiler = RedshiftCompiler()
    port = "5439"
    binary = False

    def do_connect(self, url: str) -> None:
        """Connect as to PostgreSQL."""
        super().do_connect(url.replace("redshift://", "postgresql://", 1))


def _kind(name: str) -> dt.DataType:
    """Return the type that PostgreSQL calls so; one that was made in the database has a number for its name."""
    return dt.unknown if name.isdigit() else PostgresType.from_string(name)
