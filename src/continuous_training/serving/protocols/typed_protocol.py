"""The typed protocol of /predict: pydantic's types made from a version's signature, for its checks and for OpenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NotRequired

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from continuous_training.serving.protocols import mlflow_protocol as protocol
from continuous_training.serving.protocols.signature import KINDS, TIME, Refused, Rows, clipped, malformed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.serving.protocols.signature import Column, Kind, Signature

SAID = 5  # errors of one row that are told
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_KEY = str | int | float | bool | None


class Refusal(BaseModel):
    """What every refused request is told."""

    error_code: str
    message: str


class Typed:
    """How clients of /predict ask a version, and how it answers them."""

    def __init__(self, signature: Signature, classes: Sequence[Any] | None, outputs: int | None) -> None:
        """Make the types.

        Args:
            signature: of the version.
            classes: the labels whose probabilities it answers with, if it does.
            outputs: how many numbers it answers with for each row; None for a plain one.
        """
        self._signature = signature
        self._classes = classes
        cells = {name: _annotation(column) for name, column in signature.columns.items()}
        row: Any = _record("Row", cells | dict.fromkeys(signature.keys, NotRequired[_KEY]))
        # The first wrong row ends it: the errors of a million would take a hundred times the memory of their body.
        rows: Any = Annotated[list[row], FailFast(), Field(min_length=1)]
        self.asked: TypeAdapter[Any] = TypeAdapter(_record("Rows", {"rows": rows}))
        self.answered: TypeAdapter[Any] = TypeAdapter(_answers(classes, outputs))

    def read(self, body: bytes) -> Rows:
        """Read the rows of a request to /predict.

        Raises:
            Refused: it is not JSON, or not of these types.
        """
        told = protocol.load(body)
        self._bound(told)
        try:
            rows = self.asked.validate_python(told)["rows"]
        except ValidationError as error:
            raise _wrong(_said(error)) from None
        names = dict.fromkeys(name for row in rows for name in row)
        try:
            return self._signature.rows(len(rows), {name: [row.get(name) for row in rows] for name in names})
        except Refused as error:  # a time, of which the types say no more than that it is a string
            raise _wrong(error.message) from None

    def _bound(self, told: Any) -> None:  # noqa: ANN401 - any JSON
        """See that no object has many more members than it may, which would make as many errors.

        Raises:
            Refused: one has; one of them is named.
        """
        if not isinstance(told, dict):
            return
        if len(told) > SAID:
            raise _wrong("the body: it has more in it than rows")
        rows = told.get("rows")
        most = len(self._signature.names) + SAID
        for place, row in enumerate(rows if isinstance(rows, list) else ()):
            if isinstance(row, dict) and len(row) > most:
                extra = next(name for name in row if name not in self._signature.names)
                raise _wrong(f"rows.{place}.{clipped(extra)}: Extra inputs are not permitted")

    def write(self, version: str, request_id: str, answers: np.ndarray[Any, Any]) -> bytes:
        """Write the answers, with the probability of each class where the version has them."""
        if self._classes is None:
            predictions = [{"value": value} for value in answers.tolist()]
        else:
            names = [_name(label) for label in self._classes]
            best = answers.argmax(axis=1).tolist()
            predictions = [
                {"label": self._classes[one], "probabilities": dict(zip(names, chances, strict=True))}
                for one, chances in zip(best, answers.tolist(), strict=True)
            ]
        told = {"model_version": version, "request_id": request_id, "predictions": predictions}
        return orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS)


def _annotation(column: Column) -> Any:  # noqa: ANN401 - a type made of types
    kind = column.kind
    cell: Any = _cell(kind)
    cell = cell | None if kind.nullable else cell
    return cell if column.required or not kind.nullable else NotRequired[cell]


def _cell(kind: Kind) -> Any:  # noqa: ANN401
    if kind is KINDS["datetime"]:
        form: Any = {"pattern": f"^{TIME}$"}
        message, examples = "ISO 8601, without a zone", ["2013-04-01T12:00:00"]
        return Annotated[str, Field(description=message, examples=examples, json_schema_extra=form)]
    if kind is KINDS["string"]:
        return str
    if kind is KINDS["boolean"]:
        return bool
    low, high = kind.limits or (None, None)
    return Annotated[int if kind.dtype in {np.int64, np.int32} else float, Field(ge=low, le=high)]


def _answers(classes: Sequence[Any] | None, outputs: int | None) -> Any:  # noqa: ANN401
    if classes is None:
        one: Any = float | int | bool | str | None
        prediction: Any = _record("Prediction", {"value": list[one] if outputs else one})
    else:
        chances = _record("Probabilities", dict.fromkeys(map(_name, classes), float | None))
        prediction = _record("Prediction", {"label": type(classes[0]), "probabilities": chances})
    return _record("Predictions", {"model_version": str, "request_id": str, "predictions": list[prediction]})


def _record(name: str, cells: dict[str, Any]) -> Any:  # noqa: ANN401
    """Make the type of a JSON object with these members and no other, whose names only the registry knows."""
    made = TypedDict(name, cells)  # type: ignore[misc]
    made.__pydantic_config__ = _STRICT  # type: ignore[attr-defined]
    return made


def _name(label: Any) -> str:  # noqa: ANN401 - any class label
    """Name a class as JSON would, where a name must be a string."""
    return label if isinstance(label, str) else orjson.dumps(label).decode()


def _wrong(message: str) -> Refused:
    return malformed(message, 422)


def _said(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [
        f"{'.'.join(clipped(str(part)) for part in one['loc']) or 'the body'}: {one['msg']}" for one in found[:SAID]
    ]
    more = f"; and {len(found) - SAID} more" if len(found) > SAID else ""
    return "; ".join(told) + more
