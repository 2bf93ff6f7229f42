"""MLflow's scoring protocol: a request's bytes become checked rows, and a model's answers become bytes."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from continuous_training.serving.protocols.signature import Refused, Rows, Signature, clipped, malformed

if TYPE_CHECKING:
    from collections.abc import Callable

    from continuous_training.serving.protocols.signature import Kind

JSON, CSV = "application/json", "text/csv"
SERIALIZED = {np.dtype(name) for name in ("float64", "float32", "int64", "int32", "bool")}  # by orjson itself

# What pandas, and so MLflow's server, takes in CSV for a value that is not known.
UNKNOWN = frozenset(
    (
        *("", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NULL", "null", "None"),
        *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    )
)
NUMBER = re.compile(r" *[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)? *")
INTEGER = re.compile(r" *[+-]?[0-9]{1,19} *")  # no more digits than 64 bits have
TRUTH = {"true": True, "false": False}

Table = tuple[int, dict[str, list[Any]]]  # how many rows, and the cells of each column that is asked for


def read(body: bytes, content_type: str, signature: Signature) -> Rows:
    """Read the rows of a request to /invocations.

    Raises:
        Refused: the type, the format, a column or a cell is none that the model takes.
    """
    kind, _, parameters = content_type.partition(";")
    kind, parameters = kind.strip().lower(), parameters.strip().lower().replace('"', "")
    if kind not in {JSON, CSV}:
        raise Refused(415, "INVALID_PARAMETER_VALUE", f"the content type must be {JSON} or {CSV}")
    if parameters not in {"", "charset=utf-8"}:
        raise Refused(415, "INVALID_PARAMETER_VALUE", "the only parameter of the content type is charset=utf-8")
    if kind == CSV:
        return signature.rows(*_csv(body, signature))
    told = load(body)
    if not isinstance(told, dict):
        raise malformed(f"the body must be an object with one of {', '.join(FORMATS)}")
    formats = [name for name in FORMATS if name in told]
    if len(formats) != 1:
        raise malformed(f"the body must have exactly one of {', '.join(FORMATS)}")
    if not isinstance(told.get("params"), dict | None):
        raise malformed("params must be an object; scikit-learn models take none, so MLflow's server ignores them too")
    return signature.rows(*FORMATS[formats[0]](told[formats[0]], signature.names))


def write(answers: Any) -> bytes:  # noqa: ANN401 - whatever a model returns
    """Write the answers as MLflow's server does; a NaN becomes null."""
    return orjson.dumps({"predictions": plain(answers)}, option=orjson.OPT_SERIALIZE_NUMPY)


def plain(answers: np.ndarray[Any, Any]) -> Any:  # noqa: ANN401 - an array, or the lists in its place
    """Return what orjson can write in place of an array."""
    if answers.dtype in SERIALIZED:
        return np.ascontiguousarray(answers)
    return answers.tolist()


def load(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Parse JSON; it holds neither NaN nor infinity, whatever Python's own parser would take.

    Raises:
        Refused: it is none.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise malformed(f"the body is not JSON: {error}; a value that is not known is written null") from None


def _split(told: Any, asked: frozenset[str]) -> Table:  # noqa: ANN401 - any JSON
    if not isinstance(told, dict) or set(told) - {"columns", "index", "data"}:
        raise malformed("dataframe_split must be an object with columns and data")
    names, data = _list_of(told.get("columns"), str), _list_of(told.get("data"), list)
    if names is None or data is None:
        raise malformed("dataframe_split needs columns, a list of names, and data, a list of rows")
    return _table(names, data, asked)


def _table(names: list[str], data: list[list[Any]], asked: frozenset[str]) -> Table:
    if len(set(names)) != len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise malformed(f"the column «{clipped(twice)}» is there twice")
    if any(len(row) != len(names) for row in data):
        row, cells = next((row, len(cells)) for row, cells in enumerate(data) if len(cells) != len(names))
        raise malformed(f"row {row} has {cells} cells for {len(names)} columns")
    return len(data), {name: [row[place] for row in data] for place, name in enumerate(names) if name in asked}


def _records(told: Any, asked: frozenset[str]) -> Table:  # noqa: ANN401
    told = _list_of(told, dict)
    if told is None:
        raise malformed("the rows must be a list of objects, one for each row")
    if len(told) == 1:
        return 1, {name: [cell] for name, cell in told[0].items()}
    # Only what is asked for: rows that bring other names each would make a table of their number squared.
    names = [name for name in asked if any(name in row for row in told)]
    return len(told), {name: [row.get(name) for row in told] for name in names}


def _columns(told: Any, asked: frozenset[str]) -> Table:  # noqa: ANN401
    if isinstance(told, list):
        return _records(told, asked)
    if not isinstance(told, dict) or not told:
        raise malformed("the columns must be an object, a list of cells for each name")
    columns = {name: cells if isinstance(cells, list) else [cells] for name, cells in told.items()}
    lengths = {len(cells) for cells in columns.values()}
    if len(lengths) != 1:
        raise malformed("the columns must be of the same length")
    return lengths.pop(), columns


FORMATS: dict[str, Callable[[Any, frozenset[str]], Table]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _columns,
    "inputs": _columns,
}


def _csv(body: bytes, signature: Signature) -> Table:
    """Read CSV, row by row; pandas would take a row with a cell too many for one that begins with its index."""
    try:
        text = StringIO(body.decode("utf-8-sig"), newline="")
        lines = [line for line in csv.reader(text, strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise malformed(f"the body is not CSV: {error}") from None
    if not lines:
        raise malformed("the body is not CSV: its first line must name the columns")
    count, columns = _table(lines[0], lines[1:], signature.names)
    for name, cells in columns.items():
        column = signature.columns.get(name)
        columns[name] = [_cell(text, column.kind) for text in cells] if column else _key(cells)
    return count, columns


def _cell(text: str, kind: Kind) -> Any:  # noqa: ANN401 - any cell
    """Return a cell as JSON would have it; text that is no cell of its column stays text, and is refused as such."""
    if text in UNKNOWN:
        return None
    if float in kind.takes and NUMBER.fullmatch(text):
        return found if math.isfinite(found := float(text)) else text
    if int in kind.takes and INTEGER.fullmatch(text):
        return int(text)
    return TRUTH.get(text.lower(), text) if bool in kind.takes else text


def _key(cells: list[str]) -> list[Any]:
    """Return the cells of a key, whose type nothing tells: integers, if nothing else is among them."""
    known = [None if text in UNKNOWN else text for text in cells]
    if all(text is None or INTEGER.fullmatch(text) for text in known):
        return [None if text is None else int(text) for text in known]
    return known


def _list_of(told: Any, kind: type) -> list[Any] | None:  # noqa: ANN401
    return told if isinstance(told, list) and all(isinstance(one, kind) for one in told) else None
