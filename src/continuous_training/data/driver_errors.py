"""Errors of database drivers, as errors of one line without passwords."""

from __future__ import annotations

import re

from continuous_training.errors import UserError
from continuous_training.urls import without_password

FILE_DRIVERS = {"duckdb", "_duckdb"}  # their warehouse is a file: an OperationalError is no lost connection
STATEMENT_TIMEOUT = "57014"  # PostgreSQL's code for a cancelled statement: the next attempt would take as long


class ConnectionLostError(UserError):
    """The connection to the warehouse was lost: a new attempt may succeed."""


def to_user_error(message: str, error: Exception) -> UserError:
    """Return a UserError for a driver's exception, or a ConnectionLostError if the class is named OperationalError.

    All drivers use that name for a lost connection.
    """
    classes = {(base.__module__.partition(".")[0], base.__name__) for base in type(error).__mro__}
    lost = isinstance(error, OSError) or any(
        name == "OperationalError" and module not in FILE_DRIVERS for module, name in classes
    )
    kind = ConnectionLostError if lost and getattr(error, "sqlstate", None) != STATEMENT_TIMEOUT else UserError
    return kind(f"{message}: {first_line(error)}")


def first_line(error: Exception) -> str:
    """Return the first line of a driver's message without passwords, hints and the colour codes of sqlglot."""
    text = without_password(re.sub(r"\x1b\[\d*m", "", str(error))).strip()
    first, *others = text.splitlines() or [type(error).__name__]
    return f"{first} {others[0].strip()}" if first.endswith(":") and others else first
