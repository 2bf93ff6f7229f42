"""The server's own description: OpenAPI, with the types of the version that answers now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from continuous_training.serving.http.authentication import OPEN
from continuous_training.serving.protocols.typed_protocol import Refusal

if TYPE_CHECKING:
    from fastapi import FastAPI

    from continuous_training.serving.following.loaded_version import Served

REFUSED = {
    400: "the request is wrong in itself",
    401: "its token is missing or wrong",
    408: "its body did not arrive in time",
    413: "its body is too large",
    415: "its content type is not known",
    422: "its rows are not of the champion's types",
    429: "its token has asked too often",
    503: "there is no champion, or too many requests wait: come back after Retry-After seconds",
}
SPLIT = {
    "type": "object",
    "required": ["columns", "data"],
    "properties": {
        "columns": {"type": "array", "items": {"type": "string"}},
        "index": {"type": "array"},
        "data": {"type": "array", "minItems": 1, "items": {"type": "array"}},
    },
    "additionalProperties": False,
}


def describe(app: FastAPI, served: Served | None) -> dict[str, Any]:
    """Describe the server in OpenAPI; without a champion nothing can be asked of /predict, so it is not there."""
    number = served.number if served else "none"
    described = get_openapi(title=app.title, version=number, routes=app.routes)
    schemas = described.setdefault("components", {}).setdefault("schemas", {})
    schemas["Refusal"] = Refusal.model_json_schema()
    described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path in ("/ready", "/ping"):
        described["paths"][path]["get"]["responses"]["503"] = {"description": "there is no champion"}
    if served:
        template = "#/components/schemas/{model}"
        types = (served.typed.asked, "validation"), (served.typed.answered, "serialization")
        asked, answered = (one.json_schema(ref_template=template, mode=mode) for one, mode in types)  # type: ignore[arg-type]
        for schema in (asked, answered):
            schemas.update(schema.pop("$defs", {}))
        bodies = {"application/json": {"schema": asked}}
        described["paths"]["/predict"] = {"post": _operation("predict", "Typed rows", bodies, answered)}
    mlflows = _mlflows(schemas.get("Row", {"properties": {}}))
    described["paths"]["/invocations"] = {"post": _operation("invocations", "MLflow's scoring protocol", *mlflows)}
    for path, operations in described["paths"].items():
        if path not in OPEN:
            for operation in operations.values():
                operation["security"] = [{}, {"token": []}]
    return described


def _operation(name: str, message: str, bodies: dict[str, Any], answered: dict[str, Any]) -> dict[str, Any]:
    refusal = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    responses: dict[str, Any] = {
        str(status): {"description": why, "content": refusal} for status, why in REFUSED.items()
    }
    responses["200"] = {"description": "the answers", "content": {"application/json": {"schema": answered}}}
    return {
        "operationId": name,
        "summary": message,
        "requestBody": {"required": True, "content": bodies},
        "responses": dict(sorted(responses.items())),
    }


def _mlflows(row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the bodies that MLflow's protocol takes, and the one that it answers with.

    Args:
        row: the schema of a row of /predict; here a row may have more in it.
    """
    object_of: dict[str, Any] = {"type": "object", "required": row.get("required", [])}
    columns = {name: {"type": "array", "minItems": 1, "items": cell} for name, cell in row["properties"].items()}
    records = {"type": "array", "minItems": 1, "items": object_of | {"properties": row["properties"]}}
    either = {"anyOf": [object_of | {"properties": columns, "minProperties": 1}, records]}
    tables = {"dataframe_split": SPLIT, "dataframe_records": records, "instances": either, "inputs": either}
    one_of = [
        {"type": "object", "required": [name], "properties": {name: table, "params": {"type": ["object", "null"]}}}
        for name, table in tables.items()
    ]
    answered = {"type": "object", "required": ["predictions"], "properties": {"predictions": {"type": "array"}}}
    return {"application/json": {"schema": {"oneOf": one_of}}, "text/csv": {"schema": {"type": "string"}}}, answered
