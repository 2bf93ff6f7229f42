"""MLflow's scoring protocol: parse a request's body to validated rows, and write predictions as JSON."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from continuous_training.serving.protocols.errors import RequestError, invalid_request
from continuous_training.serving.protocols.signature import Rows, Signature, shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from continuous_training.serving.protocols.signature import ColumnType

JSON, CSV = "application/json", "text/csv"
ORJSON_DTYPES = {np.dtype(name) for name in ("float64", "float32", "int64", "int32", "bool")}

# The texts that pandas, and therefore MLflow's server, reads as null in CSV.
NULL_TEXTS = frozenset(
    (
        *("", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NULL", "null", "None"),
        *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    )
)
NUMBER = re.compile(r" *[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)? *")
INTEGER = re.compile(r" *[+-]?[0-9]{1,19} *")  # 64 bits have no more than 19 digits
BOOLEANS = {"true": True, "false": False}

Table = tuple[int, dict[str, list[Any]]]  # the number of rows, and the values of each expected column


def parse_rows(body: bytes, content_type: str, signature: Signature) -> Rows:
    """Parse the body of a request to /invocations.

    Raises:
        RequestError: the content type, the format, a column or a value is wrong.
    """
    media_type, _, parameters = content_type.partition(";")
    media_type, parameters = media_type.strip().lower(), parameters.strip().lower().replace('"', "")
    if media_type not in {JSON, CSV}:
        raise RequestError(415, "INVALID_PARAMETER_VALUE", f"the content type must be {JSON} or {CSV}")
    if parameters not in {"", "charset=utf-8"}:
        raise RequestError(415, "INVALID_PARAMETER_VALUE", "the content type's only valid parameter is charset=utf-8")
    if media_type == CSV:
        return signature.validate(*_parse_csv(body, signature))
    document = parse_json(body)
    if not isinstance(document, dict):
        raise invalid_request(f"the body must be an object with one of {', '.join(FORMATS)}")
    formats = [name for name in FORMATS if name in document]
    if len(formats) != 1:
        raise invalid_request(f"the body must have exactly one of {', '.join(FORMATS)}")
    if not isinstance(document.get("params"), dict | None):
        raise invalid_request("params must be an object; scikit-learn models take none, so it is ignored")
    return signature.validate(*FORMATS[formats[0]](document[formats[0]], signature.names))


def write_predictions(predictions: np.ndarray[Any, Any]) -> bytes:
    """Write predictions as MLflow's server does; NaN becomes null."""
    serializable = np.ascontiguousarray(predictions) if predictions.dtype in ORJSON_DTYPES else predictions.tolist()
    return orjson.dumps({"predictions": serializable}, option=orjson.OPT_SERIALIZE_NUMPY)


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Parse JSON strictly: NaN and Infinity, which Python's own parser accepts, are errors.

    Raises:
        RequestError: the body is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid_request(f"the body is not JSON: {error}; write null for a missing value") from None


def _parse_split(document: Any, names: frozenset[str]) -> Table:  # noqa: ANN401 - any JSON
    if not isinstance(document, dict) or set(document) - {"columns", "index", "data"}:
        raise invalid_request("dataframe_split must be an object with columns and data")
    columns, data = _list_of(document.get("columns"), str), _list_of(document.get("data"), list)
    if columns is None or data is None:
        raise invalid_request("dataframe_split needs columns, a list of names, and data, a list of rows")
    return _to_table(columns, data, names)


def _to_table(columns: list[str], data: list[list[Any]], names: frozenset[str]) -> Table:
    if len(set(columns)) != len(columns):
        duplicate = next(name for name, count in Counter(columns).items() if count > 1)
        raise invalid_request(f"column '{shorten(duplicate)}' appears twice")
    if any(len(row) != len(columns) for row in data):
        row, width = next((row, len(cells)) for row, cells in enumerate(data) if len(cells) != len(columns))
        raise invalid_request(f"row {row} has {width} values for {len(columns)} columns")
    return len(data), {name: [row[index] for row in data] for index, name in enumerate(columns) if name in names}


def _parse_records(document: Any, names: frozenset[str]) -> Table:  # noqa: ANN401
    records = _list_of(document, dict)
    if records is None:
        raise invalid_request("the rows must be a list of objects, one for each row")
    if len(records) == 1:
        return 1, {name: [value] for name, value in records[0].items()}
    # Expected names only: if each row had names of its own, the table would grow with the square of the rows.
    present = [name for name in names if any(name in record for record in records)]
    return len(records), {name: [record.get(name) for record in records] for name in present}


def _parse_columns(document: Any, names: frozenset[str]) -> Table:  # noqa: ANN401
    if isinstance(document, list):
        return _parse_records(document, names)
    if not isinstance(document, dict) or not document:
        raise invalid_request("the columns must be an object with a list of values for each name")
    columns = {name: values if isinstance(values, list) else [values] for name, values in document.items()}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise invalid_request("the columns must have the same length")
    return lengths.pop(), columns


FORMATS: dict[str, Callable[[Any, frozenset[str]], Table]] = {
    "dataframe_split": _parse_split,
    "dataframe_records": _parse_records,
    "instances": _parse_columns,
    "inputs": _parse_columns,
}


def _parse_csv(body: bytes, signature: Signature) -> Table:
    """Parse CSV row by row: pandas would read the first cell of a row that is too long as its index."""
    try:
        text = StringIO(body.decode("utf-8-sig"), newline="")
        lines = [line for line in csv.reader(text, strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise invalid_request(f"the body is not CSV: {error}") from None
    if not lines:
        raise invalid_request("the body is not CSV: its first line must have the names of the columns")
    count, columns = _to_table(lines[0], lines[1:], signature.names)
    for name, texts in columns.items():
        column = signature.columns.get(name)
        columns[name] = [_convert(text, column.type) for text in texts] if column else _convert_key(texts)
    return count, columns


def _convert(text: str, column_type: ColumnType) -> Any:  # noqa: ANN401 - any scalar
    """Convert a CSV field to the value that JSON would have; other text stays text, which validation refuses."""
    if text in NULL_TEXTS:
        return None
    if float in column_type.json_types and NUMBER.fullmatch(text):
        return number if math.isfinite(number := float(text)) else text
    if int in column_type.json_types and INTEGER.fullmatch(text):
        return int(text)
    return BOOLEANS.get(text.lower(), text) if bool in column_type.json_types else text


def _convert_key(texts: list[str]) -> list[Any]:
    """Convert a key column, which has no declared type: to integers if all fields are integers or null."""
    values = [None if text in NULL_TEXTS else text for text in texts]
    if all(text is None or INTEGER.fullmatch(text) for text in values):
        return [None if text is None else int(text) for text in values]
    return values


def _list_of(document: Any, item_type: type) -> list[Any] | None:  # noqa: ANN401
    return document if isinstance(document, list) and all(isinstance(item, item_type) for item in document) else None
