"""The input signature of a version: its columns, and which JSON values each of them accepts."""

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
from continuous_training.serving.protocols.errors import invalid_request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one request: for each column a list with one value for each row, validated but not converted.

    `keys` holds columns that the model does not see. They are logged, so that labels can be joined later.
    """

    count: int
    columns: dict[str, list[Any]]
    keys: dict[str, list[Any]]

    def slice(self, start: int, stop: int) -> Rows:
        """Return the rows from `start` up to, but without, `stop`."""
        if (start, stop) == (0, self.count):
            return self
        columns = {name: values[start:stop] for name, values in self.columns.items()}
        return Rows(stop - start, columns, {name: values[start:stop] for name, values in self.keys.items()})


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column type of MLflow: the JSON types that it accepts, and the NumPy dtype that the model gets."""

    description: str
    json_types: frozenset[type]
    dtype: Any
    nullable: bool
    limits: tuple[float, float] | None = None


_NUMBERS: frozenset[type] = frozenset({int, float, NoneType})
_TEXTS: frozenset[type] = frozenset({str, NoneType})
_SCALARS: frozenset[type] = frozenset({str, int, float, bool, NoneType})
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_YEARS = range(1678, 2262)  # the range of 64-bit nanoseconds
# Less than ISO 8601 allows: NumPy reads 20130401 as a year and silently wraps it to one that it can represent.
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?)?)?"
MAX_QUOTED = 40  # characters of a client's input that an error message repeats

COLUMN_TYPES = {
    "double": ColumnType("a number", _NUMBERS, np.float64, nullable=True),
    "float": ColumnType("a number", _NUMBERS, np.float32, nullable=True, limits=(-_FLOAT32_MAX, _FLOAT32_MAX)),
    "long": ColumnType("an integer", frozenset({int}), np.int64, nullable=False, limits=(-(2**63), 2**63 - 1)),
    "integer": ColumnType("an integer", frozenset({int}), np.int32, nullable=False, limits=(-(2**31), 2**31 - 1)),
    "boolean": ColumnType("true or false", frozenset({bool}), np.bool_, nullable=False),
    "string": ColumnType("a string", _TEXTS, np.object_, nullable=True),
    "datetime": ColumnType(
        "a time such as 2013-04-01T12:00:00, without a time zone", _TEXTS, "datetime64[ns]", nullable=True
    ),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One input column of a version."""

    name: str
    type: ColumnType
    required: bool

    def validate(self, values: list[Any]) -> None:
        """Check that the column accepts every value.

        Raises:
            RequestError: it does not; the message names the first such row.
        """
        if not self.type.json_types.issuperset(map(type, values)):
            self._check_each(values, lambda value: type(value) in self.type.json_types)
        if self.type.limits:
            low, high = self.type.limits
            self._check_each(values, lambda value: value is None or low <= value <= high)
        elif self.type.dtype == "datetime64[ns]":
            self._check_each(values, lambda value: value is None or _is_time(value))

    def to_array(self, values: Sequence[Any]) -> np.ndarray[Any, Any]:
        """Convert validated values to an array of shape (rows,); a null in a numeric column becomes NaN."""
        return np.array(values, dtype=self.type.dtype)

    def _check_each(self, values: list[Any], accepts: Callable[[Any], bool]) -> None:
        if not all(map(accepts, values)):
            row, value = next((row, value) for row, value in enumerate(values) if not accepts(value))
            raise invalid_request(f"column '{self.name}', row {row}: {_quote(value)} is not {self.type.description}")


class Signature:
    """The input columns of a version in their order, and the key columns that a request may have beside them."""

    def __init__(self, columns: Sequence[Column], keys: Sequence[str] = ()) -> None:
        self.columns = {column.name: column for column in columns}
        self.keys = tuple(key for key in keys if key not in self.columns)
        self.names = frozenset({*self.columns, *self.keys})

    @classmethod
    def from_mlflow(cls, inputs: Sequence[Mapping[str, Any]], keys: Sequence[str], model: str) -> Signature:
        """Read MLflow's schema of a version's inputs.

        Args:
            inputs: a mapping for each column, as MLflow stores it.
            keys: the key columns.
            model: the name and version of the model, for error messages.

        Raises:
            UserError: there is no schema, or a column has a type other than the scalar ones above.
        """
        if not inputs or not all("name" in column for column in inputs):
            raise UserError(f"{model} has no input columns: log it with a signature that is inferred from a DataFrame")
        columns = []
        for column in inputs:
            column_type = COLUMN_TYPES.get(column["type"])
            if column_type is None:
                raise UserError(
                    f"{model} has the column '{column['name']}' of type {column['type']}: "
                    f"the server supports {', '.join(COLUMN_TYPES)}"
                )
            columns.append(Column(column["name"], column_type, column.get("required", True)))
        return cls(columns, keys)

    def validate(self, count: int, values: Mapping[str, list[Any]]) -> Rows:
        """Validate the columns of a request. Additional columns are ignored, as MLflow's server does.

        Args:
            count: the number of rows.
            values: for each column of the request a list with one value for each row.

        Raises:
            RequestError: a column is missing, or a value has the wrong type.
        """
        if not count:
            raise invalid_request("the request has no rows: send at least one")
        columns = {}
        for name, column in self.columns.items():
            if name in values:
                column.validate(values[name])
                columns[name] = values[name]
            elif column.required or not column.type.nullable:
                raise invalid_request(f"column '{name}' is missing; the model expects {', '.join(self.columns)}")
            else:
                columns[name] = [None] * count
        keys = {key: values[key] for key in self.keys if key in values}
        for key, cells in keys.items():
            if not _SCALARS.issuperset(map(type, cells)):
                raise invalid_request(f"column '{key}': a key must be a string, a number, a boolean or null")
        return Rows(count, columns, keys)

    def to_arrays(self, requests: Sequence[Rows]) -> dict[str, np.ndarray[Any, Any]]:
        """Concatenate the rows of several requests: one array of shape (rows,) for each column."""
        if len(requests) == 1:
            return {name: column.to_array(requests[0].columns[name]) for name, column in self.columns.items()}
        return {
            name: column.to_array(list(chain.from_iterable(rows.columns[name] for rows in requests)))
            for name, column in self.columns.items()
        }


def shorten(text: str) -> str:
    """Shorten a client's input to one printable line for an error message."""
    start = text[: MAX_QUOTED + 1]
    start = start if start.isprintable() else repr(start)[1:-1]
    return start if len(start) <= MAX_QUOTED else f"{start[: MAX_QUOTED - 1]}…"


def _quote(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Quote a value as JSON has it; a list or an object, which may be large or deeply nested, only by its type."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return f"'{shorten(value)}'" if isinstance(value, str) else json.dumps(value)


def _is_time(text: str) -> bool:
    if not re.fullmatch(TIME, text):
        return False
    try:
        return datetime.fromisoformat(text).year in _YEARS
    except ValueError:
        return False
