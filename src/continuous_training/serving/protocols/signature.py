"""What a version's signature lets its clients ask: the columns, and which cells each of them takes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Refused(Exception):  # noqa: N818 - as it is said: the request is refused
    """A request that is not answered: the HTTP status, MLflow's code for it, and why, for whoever sent it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def malformed(message: str, status: int = 400) -> Refused:
    """Make the refusal of a request that is wrong in itself."""
    return Refused(status, "INVALID_PARAMETER_VALUE", message)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one request: for each column its cells, one for each row, checked but not converted.

    `keys` are columns that the model does not see; they are logged, so that labels which come later find their row.
    """

    count: int
    columns: dict[str, list[Any]]
    keys: dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a column of one of MLflow's types takes as JSON, and the array that the model is given."""

    message: str
    takes: frozenset[type]
    dtype: Any
    nullable: bool
    limits: tuple[float, float] | None = None


_NUMBERS: frozenset[type] = frozenset({int, float, NoneType})
_TEXTS: frozenset[type] = frozenset({str, NoneType})
_PLAIN: frozenset[type] = frozenset({str, int, float, bool, NoneType})
_SINGLE = float(np.finfo(np.float32).max)
_YEARS = range(1678, 2262)  # that 64 bits of nanoseconds can count
# Not all that ISO 8601 allows: NumPy takes 20130401 for a year, and without a word makes of it one that it can count.
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?)?)?"
SHOWN = 40  # characters of what a client sent that are told back to it

KINDS = {
    "double": Kind("a number", _NUMBERS, np.float64, nullable=True),
    "float": Kind("a number", _NUMBERS, np.float32, nullable=True, limits=(-_SINGLE, _SINGLE)),
    "long": Kind("an integer", frozenset({int}), np.int64, nullable=False, limits=(-(2**63), 2**63 - 1)),
    "integer": Kind("an integer", frozenset({int}), np.int32, nullable=False, limits=(-(2**31), 2**31 - 1)),
    "boolean": Kind("true or false", frozenset({bool}), np.bool_, nullable=False),
    "string": Kind("a string", _TEXTS, np.object_, nullable=True),
    "datetime": Kind("a time such as 2013-04-01T12:00:00, without a zone", _TEXTS, "datetime64[ns]", nullable=True),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column that a version asks for."""

    name: str
    kind: Kind
    required: bool

    def check(self, cells: list[Any]) -> None:
        """See that every cell is one that this column takes.

        Raises:
            Refused: one is not; it is named with its row.
        """
        kind = self.kind
        if not kind.takes.issuperset(map(type, cells)):
            self._refuse(cells, lambda cell: type(cell) in kind.takes)
        if kind.limits:
            low, high = kind.limits
            self._hold(cells, lambda cell: cell is None or low <= cell <= high)
        elif kind.dtype == "datetime64[ns]":
            self._hold(cells, lambda cell: cell is None or _is_time(cell))

    def array(self, cells: Sequence[Any]) -> np.ndarray[Any, Any]:
        """Make of checked cells what the model is given; a null among numbers becomes NaN."""
        return np.array(cells, dtype=self.kind.dtype)

    def _hold(self, cells: list[Any], takes: Any) -> None:  # noqa: ANN401 - a predicate of any cell
        if not all(map(takes, cells)):
            self._refuse(cells, takes)

    def _refuse(self, cells: list[Any], takes: Any) -> None:  # noqa: ANN401
        row, cell = next((row, cell) for row, cell in enumerate(cells) if not takes(cell))
        raise malformed(f"column «{self.name}», row {row}: {_shown(cell)} is not {self.kind.message}")


class Signature:
    """The columns that a version asks for, in its order, and those that name a row without being asked for."""

    def __init__(self, columns: Sequence[Column], keys: Sequence[str] = ()) -> None:
        self.columns = {column.name: column for column in columns}
        self.keys = tuple(key for key in keys if key not in self.columns)
        self.names = frozenset({*self.columns, *self.keys})

    @classmethod
    def of(cls, inputs: Sequence[Mapping[str, Any]], keys: Sequence[str], what: str) -> Signature:
        """Read MLflow's schema of a version's inputs.

        Args:
            inputs: a mapping for each column, as MLflow stores it.
            keys: the columns that name a row.
            what: the version, in words.

        Raises:
            UserError: there is none, or it asks for other things than columns of plain cells.
        """
        if not inputs or not all("name" in column for column in inputs):
            raise UserError(
                f"{what} does not say which columns it takes: log it with a signature made from a DataFrame"
            )
        columns = []
        for column in inputs:
            kind = KINDS.get(column["type"])
            if kind is None:
                raise UserError(f"{what} asks for «{column['name']}» of type {column['type']}, which is no plain cell")
            columns.append(Column(column["name"], kind, column.get("required", True)))
        return cls(columns, keys)

    def rows(self, count: int, given: Mapping[str, list[Any]]) -> Rows:
        """Check what a client sent; columns that nobody asks for are left out, as MLflow's server does.

        Args:
            count: how many rows.
            given: for each column of the request its cells, as many as rows.

        Raises:
            Refused: a column is missing, or a cell is of the wrong type.
        """
        if not count:
            raise malformed("there are no rows: send one at least")
        columns = {}
        for name, column in self.columns.items():
            cells = given.get(name)
            if cells is None:
                if column.required or not column.kind.nullable:
                    raise malformed(f"the column «{name}» is missing; the model takes {', '.join(self.columns)}")
                cells = [None] * count
            else:
                column.check(cells)
            columns[name] = cells
        keys = {key: given[key] for key in self.keys if key in given}
        for key, cells in keys.items():
            if not _PLAIN.issuperset(map(type, cells)):
                raise malformed(f"column «{key}»: a key is a string, a number, true, false or null")
        return Rows(count, columns, keys)

    def arrays(self, asked: Sequence[Rows]) -> dict[str, np.ndarray[Any, Any]]:
        """Put the rows of several requests together, an array for each column."""
        if len(asked) == 1:
            return {name: column.array(asked[0].columns[name]) for name, column in self.columns.items()}
        return {
            name: column.array(list(chain.from_iterable(rows.columns[name] for rows in asked)))
            for name, column in self.columns.items()
        }


def part(rows: Rows, start: int, stop: int) -> Rows:
    """Cut some rows out of a request."""
    if (start, stop) == (0, rows.count):
        return rows
    cut = {name: cells[start:stop] for name, cells in rows.columns.items()}
    return Rows(stop - start, cut, {name: cells[start:stop] for name, cells in rows.keys.items()})


def clipped(text: str) -> str:
    """Shorten what a client sent, and write it in one line, to tell it back."""
    told = text[: SHOWN + 1]
    told = told if told.isprintable() else repr(told)[1:-1]
    return told if len(told) <= SHOWN else f"{told[: SHOWN - 1]}…"


def _shown(cell: Any) -> str:  # noqa: ANN401 - any JSON
    """Show a cell as its client knows it; a list or an object only by name, for it may be of any size and depth."""
    if isinstance(cell, list | dict):
        return "a list" if isinstance(cell, list) else "an object"
    return f"'{clipped(cell)}'" if isinstance(cell, str) else json.dumps(cell)


def _is_time(text: str) -> bool:
    if not re.fullmatch(TIME, text):
        return False
    try:
        return datetime.fromisoformat(text).year in _YEARS
    except ValueError:
        return False
