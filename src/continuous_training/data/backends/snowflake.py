"""Snowflake through Ibis, for a role that may only read, with columns named as in the query.

Its address is `snowflake://user:password@account/database/schema?warehouse=…&role=…`. Parameters of Snowflake's
connector follow the question mark: `private_key_file` replaces the password, `authenticator` selects another way to log
in, `host` and `port` a private endpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ibis.backends.snowflake import Backend

from snowflake import connector

if TYPE_CHECKING:
    from ibis.expr.types import Table

SESSION = {  # Ibis requires these session parameters
    "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT": "arrow_force",
    "TIMEZONE": "UTC",
}
TIMEOUTS = {"login_timeout": 60, "network_timeout": 600}  # seconds; the connector would retry forever by default
NUMBERS = {"port", *TIMEOUTS}


class Snowflake(Backend):  # type: ignore[misc] # Ibis has no types
    """Ibis' backend with another way to connect and to name columns."""

    def do_connect(self, url: str) -> None:
        """Connect and create nothing: Ibis would create a database of functions."""
        address = urlsplit(url)
        database, _, schema = address.path.strip("/").partition("/")
        login = {
            "account": address.hostname,
            "user": address.username,
            "password": address.password,
            "database": database,
            "schema": schema,
        }
        options = {name: int(value) if name in NUMBERS else value for name, value in parse_qsl(address.query)}
        self.con = connector.connect(
            **{name: unquote(value) for name, value in login.items() if value},
            **TIMEOUTS | options,
            session_parameters=SESSION,
        )

    def sql(self, query: str, /, **options: Any) -> Table:  # noqa: ANN401 - Ibis' arguments, passed on
        """Return a query's rows, columns named as in the query: Snowflake makes unquoted names upper case."""
        return super().sql(query, **options).rename(lambda name: name.lower() if name.isupper() else name)
