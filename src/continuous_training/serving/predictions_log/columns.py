"""The Arrow columns of the predictions log, whose types are inferred from the values.

Integers, floats, booleans and text have columns of their own types, where NaN and None are null. Any other value, and
each value of a column with several types, is stored as text: as JSON, or as it is if it is text already.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

if TYPE_CHECKING:
    from datetime import datetime

NULL, BOOLEAN, INTEGER, NUMBER, TEXT = pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string()
ARRAY_TYPES = {"b": BOOLEAN, "i": INTEGER, "f": NUMBER}  # by the kind of a NumPy dtype
OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
NULL_TYPES = {type(None), type(pd.NA), type(pd.NaT)}


@dataclass(frozen=True, slots=True)
class PredictionBatch:
    """The inputs and predictions of one call of the model.

    `requests` has the requests' ids, each with the indices of its rows in the batch, in their order. `inputs` and
    `keys` have a value for each row; keys are sent beside the features, so that labels can be joined later. `role` is
    "champion", "canary" or "shadow"; `time` is the time of the call, in UTC.
    """

    version: str
    role: str
    requests: list[tuple[str, range]]
    inputs: dict[str, Any]
    keys: dict[str, list[Any]]
    predictions: np.ndarray
    time: datetime


@dataclass(frozen=True)
class Columns:
    """The column types of a model version so far: they are widened as needed, so that few files have other schemas."""

    inputs: dict[str, pa.DataType]
    keys: dict[str, pa.DataType]
    predictions: pa.DataType = NULL

    def widen(self, batch: PredictionBatch) -> Columns:
        """Return columns that hold these columns' values and a batch."""
        return Columns(
            self.inputs | {name: _widen(self.inputs.get(name, NULL), values) for name, values in batch.inputs.items()},
            self.keys | {name: _widen(self.keys.get(name, NULL), values) for name, values in batch.keys.items()},
            _widen(self.predictions, batch.predictions.ravel()),
        )

    def to_record_batch(self, batch: PredictionBatch, model: str) -> pa.RecordBatch:
        """Convert a batch. A struct without fields is left out: Parquet does not support it."""
        rows = len(batch.predictions)
        values = _to_array(batch.predictions.ravel(), self.predictions)
        offsets = np.arange(rows + 1, dtype=np.int32) * (len(values) // rows)
        columns = {
            "request_id": _to_array([request_id for request_id, indices in batch.requests for _ in indices], TEXT),
            "row": pa.array([index for _, indices in batch.requests for index in indices], pa.int32()),
            "time": pa.repeat(pa.scalar(batch.time, pa.timestamp("us", "UTC")), rows),
            "model": pa.repeat(model, rows),
            "model_version": pa.repeat(batch.version, rows),
            "role": pa.repeat(batch.role, rows),
            "inputs": _to_struct(batch.inputs, self.inputs, rows),
            "keys": _to_struct(batch.keys, self.keys, rows),
            "answers": pa.ListArray.from_arrays(offsets, values),
        }
        present = {name: column for name, column in columns.items() if column is not None}
        return pa.RecordBatch.from_arrays(list(present.values()), list(present))


def _widen(current: pa.DataType, values: Any) -> pa.DataType:  # noqa: ANN401 - an array or a list
    """Return the type of a column that holds its current type and these values."""
    inferred = _infer_type(values)
    if inferred in (current, NULL):
        return current
    if current == NULL:
        return inferred
    return NUMBER if {current, inferred} == {INTEGER, NUMBER} else TEXT


def _infer_type(values: Any) -> pa.DataType:  # noqa: ANN401
    if _is_typed_array(values):
        return ARRAY_TYPES[values.dtype.kind]
    values = _to_list(values)
    types = set(map(type, values)) - NULL_TYPES
    if types and types <= {int, float}:
        integers = [value for value in values if type(value) is int]
        if integers and (min(integers) < -(2**63) or max(integers) >= 2**63):
            return TEXT
        return NUMBER if float in types else INTEGER
    return (BOOLEAN if types == {bool} else TEXT) if types else NULL


def _to_array(values: Any, column_type: pa.DataType) -> pa.Array:  # noqa: ANN401
    if column_type == TEXT:
        texts = [value if type(value) is str and value.isascii() else _to_text(value) for value in _to_list(values)]
        return pa.array(texts, TEXT)
    if column_type == NUMBER and _is_typed_array(values):
        values = values.astype(np.float64, copy=False)
    elif column_type == NUMBER:
        values = [float(value) if type(value) is int else value for value in _to_list(values)]
    return pa.array(values if _is_typed_array(values) else _to_list(values), column_type, from_pandas=True)


def _to_struct(values: dict[str, Any], types: dict[str, pa.DataType], rows: int) -> pa.StructArray | None:
    columns = [
        _to_array(values[name], column_type) if name in values else pa.nulls(rows, column_type)
        for name, column_type in types.items()
    ]
    return pa.StructArray.from_arrays(columns, list(types)) if types else None


def _is_typed_array(values: Any) -> bool:  # noqa: ANN401
    return isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in ARRAY_TYPES


def _to_list(values: Any) -> list[Any]:  # noqa: ANN401
    """Return a list, with NumPy's numbers converted to Python's."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind in "mM":
            values = values.astype(f"{values.dtype.kind}8[us]")  # Python has no nanoseconds
        values = values.tolist()
    if any(issubclass(value_type, np.generic) for value_type in set(map(type, values))):
        return [
            value.item() if isinstance(value, np.generic) and value.dtype.kind in "biuf" else value for value in values
        ]
    return list(values)


def _to_text(value: Any) -> str | None:  # noqa: ANN401 - whatever a client sends
    """Return text as it is, and anything else as JSON, without the quotes if that is a plain string."""
    if not isinstance(value, str):
        if pd.api.types.is_scalar(value) and pd.isna(value):
            return None
        try:
            text = (
                json.dumps(value)
                if isinstance(value, int | float)
                else orjson.dumps(value, _to_json_value, OPTIONS).decode()
            )
        except TypeError:  # it has integers of more than 64 bits, or unpaired surrogates
            text = json.dumps(value, default=_to_json_value)
        value = json.loads(text) if text.startswith('"') else text
    return str(value) if value.isascii() else value.encode("utf-8", "backslashreplace").decode()


def _to_json_value(value: Any) -> Any:  # noqa: ANN401
    """Convert a value of a type that JSON does not have."""
    return value.tolist() if isinstance(value, np.ndarray) else str(value)
