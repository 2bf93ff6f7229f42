"""The typed protocol of /predict: pydantic types that are generated from a version's signature.

They validate requests, and describe them in OpenAPI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NotRequired

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from continuous_training.serving.protocols import mlflow_protocol
from continuous_training.serving.protocols.errors import RequestError, invalid_request
from continuous_training.serving.protocols.signature import COLUMN_TYPES, TIME, Rows, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.serving.protocols.signature import Column, ColumnType, Signature

MAX_ERRORS = 5  # errors of one row in a message
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_KEY = str | int | float | bool | None


class ErrorResponse(BaseModel):
    """The body of every error response."""

    error_code: str
    message: str


class TypedProtocol:
    """Parses requests to /predict, and writes responses, for one version."""

    def __init__(
        self, signature: Signature, classes: Sequence[Any] | None, outputs: int | None, targets: Sequence[str] = ()
    ) -> None:
        """Generate the types.

        Args:
            signature: the version's input signature.
            classes: the labels whose probabilities the version predicts; None if it predicts no probabilities.
            outputs: the number of values in one prediction; None for a scalar.
            targets: their names, if they are known.
        """
        self._signature = signature
        self._classes = classes
        members = {name: _annotate(column) for name, column in signature.columns.items()}
        row: Any = _object_type("Row", members | dict.fromkeys(signature.keys, NotRequired[_KEY]))
        # Stop at the first wrong row: the errors of a million rows would take a hundred times the body's memory.
        rows: Any = Annotated[list[row], FailFast(), Field(min_length=1)]
        self.request_type: TypeAdapter[Any] = TypeAdapter(_object_type("Rows", {"rows": rows}))
        self.response_type: TypeAdapter[Any] = TypeAdapter(_response_type(classes, outputs, targets))

    def parse_rows(self, body: bytes) -> Rows:
        """Parse the body of a request to /predict.

        Raises:
            RequestError: it is not JSON, or does not match the types.
        """
        document = mlflow_protocol.parse_json(body)
        self._limit_members(document)
        try:
            rows = self.request_type.validate_python(document)["rows"]
        except ValidationError as error:
            raise _unprocessable(_summarize(error)) from None
        names = dict.fromkeys(name for row in rows for name in row)
        try:
            return self._signature.validate(len(rows), {name: [row.get(name) for row in rows] for name in names})
        except RequestError as error:  # an invalid time, which is only a string to the types
            raise _unprocessable(error.message) from None

    def _limit_members(self, document: Any) -> None:  # noqa: ANN401 - any JSON
        """Check that no object has many more members than expected: validation would report an error for each.

        Raises:
            RequestError: one has; the message names one of them.
        """
        if not isinstance(document, dict):
            return
        if len(document) > MAX_ERRORS:
            raise _unprocessable("the body: only rows is permitted")
        rows = document.get("rows")
        limit = len(self._signature.names) + MAX_ERRORS
        for index, row in enumerate(rows if isinstance(rows, list) else ()):
            if isinstance(row, dict) and len(row) > limit:
                extra = next(name for name in row if name not in self._signature.names)
                raise _unprocessable(f"rows.{index}.{shorten(extra)}: Extra inputs are not permitted")

    def write_predictions(self, version: str, request_id: str, predictions: np.ndarray[Any, Any]) -> bytes:
        """Write the predictions, with the probability of each class where the version predicts them."""
        if self._classes is None:
            items = [{"value": value} for value in predictions.tolist()]
        else:
            names = [_class_name(label) for label in self._classes]
            items = [
                {"label": self._classes[index], "probabilities": dict(zip(names, probabilities, strict=True))}
                for index, probabilities in zip(predictions.argmax(axis=1).tolist(), predictions.tolist(), strict=True)
            ]
        response = {"model_version": version, "request_id": request_id, "predictions": items}
        return orjson.dumps(response, option=orjson.OPT_NON_STR_KEYS)


def _annotate(column: Column) -> Any:  # noqa: ANN401 - a type that is generated
    value: Any = _value_type(column.type)
    value = value | None if column.type.nullable else value
    return value if column.required or not column.type.nullable else NotRequired[value]


def _value_type(column_type: ColumnType) -> Any:  # noqa: ANN401
    if column_type is COLUMN_TYPES["datetime"]:
        pattern: Any = {"pattern": f"^{TIME}$"}
        description, examples = "ISO 8601, without a time zone", ["2013-04-01T12:00:00"]
        return Annotated[str, Field(description=description, examples=examples, json_schema_extra=pattern)]
    if column_type is COLUMN_TYPES["string"]:
        return str
    if column_type is COLUMN_TYPES["boolean"]:
        return bool
    low, high = column_type.limits or (None, None)
    return Annotated[int if column_type.dtype in {np.int64, np.int32} else float, Field(ge=low, le=high)]


def _response_type(classes: Sequence[Any] | None, outputs: int | None, targets: Sequence[str]) -> Any:  # noqa: ANN401
    if classes is None:
        value: Any = float | int | bool | str | None
        if outputs is not None:
            description = ", ".join(targets) or None
            value = Annotated[list[value], Field(min_length=outputs, max_length=outputs, description=description)]
        prediction: Any = _object_type("Prediction", {"value": value})
    else:
        probabilities = _object_type("Probabilities", dict.fromkeys(map(_class_name, classes), float | None))
        prediction = _object_type("Prediction", {"label": type(classes[0]), "probabilities": probabilities})
    members = {"model_version": str, "request_id": str, "predictions": list[prediction]}
    return _object_type("Predictions", members)


def _object_type(name: str, members: dict[str, Any]) -> Any:  # noqa: ANN401
    """Generate the type of a JSON object that has exactly these members."""
    generated = TypedDict(name, members)  # type: ignore[misc]  # the names are those of the registered version
    generated.__pydantic_config__ = _STRICT  # type: ignore[attr-defined]
    return generated


def _class_name(label: Any) -> str:  # noqa: ANN401 - any class label
    """Return a class label as the name of a JSON object's member, which must be a string."""
    return label if isinstance(label, str) else orjson.dumps(label).decode()


def _unprocessable(message: str) -> RequestError:
    return invalid_request(message, 422)


def _summarize(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    messages = [
        f"{'.'.join(shorten(str(part)) for part in detail['loc']) or 'the body'}: {detail['msg']}"
        for detail in details[:MAX_ERRORS]
    ]
    more = f"; and {len(details) - MAX_ERRORS} more" if len(details) > MAX_ERRORS else ""
    return "; ".join(messages) + more
