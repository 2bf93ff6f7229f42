"""Snowflake as Ibis has it, for a role that may only read, and with columns named as the query names them.

Its address is `snowflake://user:password@account/database/schema?warehouse=…&role=…`. After the question mark stand
parameters of Snowflake's connector: `private_key_file` goes in place of a password, `authenticator` says how else to
log in, `host` and `port` name a private way there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ibis.backends.snowflake import Backend

from snowflake import connector

if TYPE_CHECKING:
    from ibis.expr.types import Table

SESSION = {  # what Ibis counts on
    "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT": "arrow_force",
    "TIMEZONE": "UTC",
}
PATIENCE = {"login_timeout": 60, "network_timeout": 600}  # seconds; the connector would ask for ever
NUMBERS = {"port", *PATIENCE}


class Snowflake(Backend):  # type: ignore[misc] # Ibis has no types
    """Ibis' backend, but for how it connects and what it calls columns."""

    def do_connect(self, url: str) -> None:
        """Connect, and make nothing there: Ibis would make a database of functions."""
        given = urlsplit(url)
        database, _, schema = given.path.strip("/").partition("/")
        named = {
            "account": given.hostname,
            "user": given.username,
            "password": given.password,
            "database": database,
            "schema": schema,
        }
        asked = {name: int(value) if name in NUMBERS else value for name, value in parse_qsl(given.query)}
        self.con = connector.connect(
            **{name: unquote(value) for name, value in named.items() if value},
            **PATIENCE | asked,
            session_parameters=SESSION,
        )

    def sql(self, query: str, /, **known: Any) -> Table:  # noqa: ANN401 - Ibis' own, passed on
        """Return a query's rows, its columns as they are written there: Snowflake shouts names without quotes."""
        return super().sql(query, **known).rename(lambda name: name.lower() if name.isupper() else name)
