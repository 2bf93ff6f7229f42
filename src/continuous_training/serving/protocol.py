"""MLflow's scoring protocol: a request's bytes become checked rows, and a model's answers become bytes."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from continuous_training.serving.signature import Refused, Rows, Signature, malformed

if TYPE_CHECKING:
    from collections.abc import Callable

JSON, CSV = "application/json", "text/csv"
SERIALIZED = {np.dtype(name) for name in ("float64", "float32", "int64", "int32", "bool")}  # by orjson itself

Table = tuple[int, dict[str, list[Any]]]  # how many rows, and each column's cells


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
    if not isinstance(told.get("params") or {}, dict):
        raise malformed("params must be an object; scikit-learn models take none, so MLflow's server ignores them too")
    return signature.rows(*FORMATS[formats[0]](told[formats[0]]))


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


def _split(told: Any) -> Table:  # noqa: ANN401 - any JSON
    if not isinstance(told, dict) or set(told) - {"columns", "index", "data"}:
        raise malformed("dataframe_split must be an object with columns and data")
    names, data = _list_of(told.get("columns"), str), _list_of(told.get("data"), list)
    if names is None or data is None:
        raise malformed("dataframe_split needs columns, a list of names, and data, a list of rows")
    if len(set(names)) != len(names):
        raise malformed("dataframe_split names a column twice")
    if (wrong := next((row for row in data if len(row) != len(names)), None)) is not None:
        raise malformed(f"a row of dataframe_split has {len(wrong)} cells for {len(names)} columns")
    return len(data), {name: [row[place] for row in data] for place, name in enumerate(names)}


def _records(told: Any) -> Table:  # noqa: ANN401
    told = _list_of(told, dict)
    if told is None:
        raise malformed("the rows must be a list of objects, one for each row")
    if len(told) == 1:
        return 1, {name: [cell] for name, cell in told[0].items()}
    names = dict.fromkeys(name for row in told for name in row)
    return len(told), {name: [row.get(name) for row in told] for name in names}


def _columns(told: Any) -> Table:  # noqa: ANN401
    if isinstance(told, list):
        return _records(told)
    if not isinstance(told, dict) or not told:
        raise malformed("the columns must be an object, a list of cells for each name")
    columns = {name: cells if isinstance(cells, list) else [cells] for name, cells in told.items()}
    lengths = {len(cells) for cells in columns.values()}
    if len(lengths) != 1:
        raise malformed("the columns must be of the same length")
    return lengths.pop(), columns


FORMATS: dict[str, Callable[[Any], Table]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _columns,
    "inputs": _columns,
}


def _csv(body: bytes, signature: Signature) -> Table:
    import pandas as pd  # only here: whoever sends JSON does not wait for it

    texts: Any = {name: str for name, column in signature.columns.items() if str in column.kind.takes}
    try:
        table = pd.read_csv(StringIO(body.decode()), dtype=texts)
    except (ValueError, OverflowError) as error:  # pandas' errors of parsing and UnicodeDecodeError are among them
        raise malformed(f"the body is not CSV: {str(error).splitlines()[0]}") from None
    named = [str(name) for name in table.columns]
    cells = table.to_numpy(dtype=object).T
    return len(table), {
        name: [None if cell != cell else _cell(cell) for cell in column]
        for name, column in zip(named, cells, strict=True)
    }


def _cell(cell: Any) -> Any:  # noqa: ANN401 - numpy's scalars become Python's
    found = cell.item() if isinstance(cell, np.generic) else cell
    if isinstance(found, float) and found in {float("inf"), -float("inf")}:
        raise malformed("a cell is infinite: leave it empty if it is not known")
    return found


def _list_of(told: Any, kind: type) -> list[Any] | None:  # noqa: ANN401
    return told if isinstance(told, list) and all(isinstance(one, kind) for one in told) else None
