"""Snowflake for tests: fakesnow, in a separate environment, with additions that the tests need.

The additions are a password check, DESCRIBE of a query's columns (in the form that Snowflake's documentation shows),
nulls among times, and results in several chunks that are fetched one by one; the first request for the last chunk of a
result fails. GET /statements returns every statement.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import uvicorn
from fakesnow import arrow
from fakesnow.server import login_request, query_request, routes
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from typing import Any

    from starlette.types import Message

HEADINGS = ("name", "type", "kind", "null?")
TEXT = {"type": "text", "length": 100, "precision": None, "scale": None, "nullable": True}
TYPES = {"FIXED": "NUMBER({precision},{scale})", "REAL": "FLOAT", "TEXT": "VARCHAR({length})"}
TIMES = "{type}({scale})"
CHUNK_ROWS = 200
PORT, PASSWORD = sys.argv[1:]

statements: list[str] = []
last_statements: dict[str | None, str] = {}  # by session


chunks: dict[str, bytes] = {}
numbers = itertools.count()
unavailable: set[str] = set()
as_struct = arrow.timestamp_to_sf_struct


def _with_nulls(times: pa.ChunkedArray) -> pa.StructArray:
    """Pack times as fakesnow does, with their nulls, which fakesnow drops: the connector would read 1970 instead."""
    struct = as_struct(times)
    nulls = times.combine_chunks().is_null()
    return pa.StructArray.from_arrays(struct.flatten(), fields=list(struct.type), mask=nulls)


async def login(request: Request) -> JSONResponse:
    """Check the password."""
    if (await _read_body(request))["data"].get("PASSWORD") != PASSWORD:
        message = "Incorrect username or password was specified."
        return JSONResponse({"data": {}, "code": "390100", "message": message, "success": False})
    return await login_request(request)


async def query(request: Request) -> JSONResponse:
    """Run a statement with fakesnow, or describe the columns of the session's last one."""
    body = await _read_body(request)
    session, statement = request.headers.get("Authorization"), body["sqlText"]
    statements.append(statement)
    if statement != "DESCRIBE RESULT LAST_QUERY_ID()":
        last_statements[session] = statement
        return _split(await query_request(request))
    response = await query_request(
        _replace_body(request, body | {"sqlText": last_statements[session], "describeOnly": True})
    )
    message = json.loads(bytes(response.body))
    rows = [_describe(column) for column in message["data"]["rowtype"]]
    headings = [TEXT | {"name": name} for name in HEADINGS]
    table = {"rowtype": headings, "queryResultFormat": "json", "rowset": rows, "total": len(rows)}
    return JSONResponse({"data": message["data"] | table, "success": True})


def _split(response: JSONResponse) -> JSONResponse:
    """Split a large result: the response has the first chunk and the URLs of the others."""
    message = json.loads(bytes(response.body))
    if not (message["data"] or {}).get("rowsetBase64") or message["data"]["total"] <= CHUNK_ROWS:
        return response
    rows = pa.ipc.open_stream(base64.b64decode(message["data"]["rowsetBase64"])).read_all()
    first, *rest = (rows.slice(begin, CHUNK_ROWS) for begin in range(0, rows.num_rows, CHUNK_ROWS))
    message["data"] |= {"rowsetBase64": base64.b64encode(arrow.to_ipc(first)).decode(), "chunks": []}
    for chunk in rest:
        path = f"/chunks/{next(numbers)}"
        chunks[path] = content = bytes(arrow.to_ipc(chunk))
        reference = {"url": f"http://127.0.0.1:{PORT}{path}", "rowCount": chunk.num_rows}
        message["data"]["chunks"].append(reference | {"uncompressedSize": len(content), "compressedSize": len(content)})
    unavailable.add(path)
    return JSONResponse(message)


def fetch(request: Request) -> Response:
    """Return one chunk."""
    path = request.url.path
    if path in unavailable:
        unavailable.remove(path)
        return Response(status_code=503)
    return Response(chunks[path])


async def _read_body(request: Request) -> dict[str, Any]:
    """Return a request's body, which the connector compresses."""
    return json.loads(gzip.decompress(await request.body()))


def _replace_body(request: Request, body: dict[str, Any]) -> Request:
    """Return a request with another body."""

    async def receive() -> Message:
        return {"type": "http.request", "body": gzip.compress(json.dumps(body).encode()), "more_body": False}

    return Request(request.scope, receive)


def _describe(column: dict[str, Any]) -> tuple[str, str, str, str]:
    kind = column["type"].upper()
    form = TYPES.get(kind, TIMES if kind.startswith("TIME") else kind)
    return column["name"], form.format(**column | {"type": kind}), "COLUMN", "Y" if column["nullable"] else "N"


if __name__ == "__main__":
    arrow.timestamp_to_sf_struct = _with_nulls
    own_routes = [Route("/statements", lambda _: JSONResponse(statements)), Route("/chunks/{number}", fetch)]
    replacements = {"/session/v1/login-request": login, "/queries/v1/query-request": query}
    replacement_routes = [Route(path, handler, methods=["POST"]) for path, handler in replacements.items()]
    uvicorn.run(Starlette(routes=[*own_routes, *replacement_routes, *routes]), port=int(PORT), log_level="warning")
