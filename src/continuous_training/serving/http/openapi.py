"""The server's OpenAPI description, with the types of the version that it serves now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from continuous_training.serving.http.access_control import OPEN_PATHS
from continuous_training.serving.protocols.typed_protocol import ErrorResponse

if TYPE_CHECKING:
    from fastapi import FastAPI

    from continuous_training.serving.following.hosted_version import HostedVersion

ERROR_DESCRIPTIONS = {
    400: "the request is malformed",
    401: "the token is missing or wrong",
    408: "the body did not arrive in time",
    413: "the body is too large",
    415: "the content type is not supported",
    422: "the rows do not match the champion's types",
    429: "the client's rate limit is exceeded",
    503: "there is no champion, or the queue is full: try again after Retry-After seconds",
}
SPLIT_SCHEMA = {
    "type": "object",
    "required": ["columns", "data"],
    "properties": {
        "columns": {"type": "array", "items": {"type": "string"}},
        "index": {"type": "array"},
        "data": {"type": "array", "minItems": 1, "items": {"type": "array"}},
    },
    "additionalProperties": False,
}


def describe(app: FastAPI, version: HostedVersion | None) -> dict[str, Any]:
    """Describe the server in OpenAPI; without a champion, /predict has no types and is left out."""
    number = version.number if version else "none"
    description = get_openapi(title=app.title, version=number, routes=app.routes)
    schemas = description.setdefault("components", {}).setdefault("schemas", {})
    schemas["ErrorResponse"] = ErrorResponse.model_json_schema()
    description["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path in ("/ready", "/ping"):
        description["paths"][path]["get"]["responses"]["503"] = {"description": "there is no champion"}
    if version:
        protocol, template = version.typed_protocol, "#/components/schemas/{model}"
        request = protocol.request_type.json_schema(ref_template=template, mode="validation")
        response = protocol.response_type.json_schema(ref_template=template, mode="serialization")
        for schema in (request, response):
            schemas.update(schema.pop("$defs", {}))
        bodies = {"application/json": {"schema": request}}
        description["paths"]["/predict"] = {"post": _describe_operation("predict", "Typed rows", bodies, response)}
    row = schemas.get("Row", {"properties": {}})
    invocations = _describe_operation("invocations", "MLflow's scoring protocol", *_describe_mlflow_protocol(row))
    description["paths"]["/invocations"] = {"post": invocations}
    for path, operations in description["paths"].items():
        if path not in OPEN_PATHS:
            for operation in operations.values():
                operation["security"] = [{}, {"token": []}]
    return description


def _describe_operation(name: str, summary: str, bodies: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
    responses: dict[str, Any] = {
        str(status): {"description": text, "content": error} for status, text in ERROR_DESCRIPTIONS.items()
    }
    responses["200"] = {"description": "the predictions", "content": {"application/json": {"schema": response}}}
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": bodies},
        "responses": dict(sorted(responses.items())),
    }


def _describe_mlflow_protocol(row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the request bodies of MLflow's protocol by content type, and the schema of its response.

    Args:
        row: the schema of a row of /predict; here a row may have additional members.
    """
    base: dict[str, Any] = {"type": "object", "required": row.get("required", [])}
    columns = {name: {"type": "array", "minItems": 1, "items": value} for name, value in row["properties"].items()}
    records = {"type": "array", "minItems": 1, "items": base | {"properties": row["properties"]}}
    either = {"anyOf": [base | {"properties": columns, "minProperties": 1}, records]}
    formats = {"dataframe_split": SPLIT_SCHEMA, "dataframe_records": records, "instances": either, "inputs": either}
    one_of = [
        {"type": "object", "required": [name], "properties": {name: schema, "params": {"type": ["object", "null"]}}}
        for name, schema in formats.items()
    ]
    response = {"type": "object", "required": ["predictions"], "properties": {"predictions": {"type": "array"}}}
    return {"application/json": {"schema": {"oneOf": one_of}}, "text/csv": {"schema": {"type": "string"}}}, response
