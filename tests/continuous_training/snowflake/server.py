"""What stands for Snowflake in tests: fakesnow, run in an environment of its own, with what it lacks and they need.

That is a password that is looked at, an answer to the question which columns a query has (in the form that Snowflake's
documentation shows), nulls among times, and rows in several parts, each fetched on its own: the last of an answer is
not to be had at once. Every statement is kept, for who asks at /statements.
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
ROWS = 200  # of a part
PORT, PASSWORD = sys.argv[1:]

statements: list[str] = []
asked: dict[str | None, str] = {}  # the last statement of each session


parts: dict[str, bytes] = {}
numbers = itertools.count()
unready: set[str] = set()
as_struct = arrow.timestamp_to_sf_struct


def _with_nulls(times: pa.ChunkedArray) -> pa.StructArray:
    """Pack times as fakesnow does, which forgets that some are null: the connector would take these for 1970."""
    packed = as_struct(times)
    nulls = times.combine_chunks().is_null()
    return pa.StructArray.from_arrays(packed.flatten(), fields=list(packed.type), mask=nulls)


async def login(request: Request) -> JSONResponse:
    """Let in whoever has the password."""
    if (await _said(request))["data"].get("PASSWORD") != PASSWORD:
        message = "Incorrect username or password was specified."
        return JSONResponse({"data": {}, "code": "390100", "message": message, "success": False})
    return await login_request(request)


async def query(request: Request) -> JSONResponse:
    """Have fakesnow run a statement, or tell the columns of the one before."""
    body = await _said(request)
    session, statement = request.headers.get("Authorization"), body["sqlText"]
    statements.append(statement)
    if statement != "DESCRIBE RESULT LAST_QUERY_ID()":
        asked[session] = statement
        return _in_parts(await query_request(request))
    answer = await query_request(_with(request, body | {"sqlText": asked[session], "describeOnly": True}))
    message = json.loads(bytes(answer.body))
    rows = [_described(column) for column in message["data"]["rowtype"]]
    headings = [TEXT | {"name": name} for name in HEADINGS]
    table = {"rowtype": headings, "queryResultFormat": "json", "rowset": rows, "total": len(rows)}
    return JSONResponse({"data": message["data"] | table, "success": True})


def _in_parts(answer: JSONResponse) -> JSONResponse:
    """Keep all rows but the first ones, for who comes to fetch them."""
    message = json.loads(bytes(answer.body))
    if not (message["data"] or {}).get("rowsetBase64") or message["data"]["total"] <= ROWS:
        return answer
    rows = pa.ipc.open_stream(base64.b64decode(message["data"]["rowsetBase64"])).read_all()
    first, *rest = (rows.slice(begin, ROWS) for begin in range(0, rows.num_rows, ROWS))
    message["data"] |= {"rowsetBase64": base64.b64encode(arrow.to_ipc(first)).decode(), "chunks": []}
    for part in rest:
        path = f"/parts/{next(numbers)}"
        parts[path] = packed = bytes(arrow.to_ipc(part))
        kept = {"url": f"http://127.0.0.1:{PORT}{path}", "rowCount": part.num_rows}
        message["data"]["chunks"].append(kept | {"uncompressedSize": len(packed), "compressedSize": len(packed)})
    unready.add(path)
    return JSONResponse(message)


def fetch(request: Request) -> Response:
    """Give one of the parts."""
    path = request.url.path
    if path in unready:
        unready.remove(path)
        return Response(status_code=503)
    return Response(parts[path])


async def _said(request: Request) -> dict[str, Any]:
    """Return a request's body, which the connector packs."""
    return json.loads(gzip.decompress(await request.body()))


def _with(request: Request, body: dict[str, Any]) -> Request:
    """Return a request with another body."""

    async def receive() -> Message:
        return {"type": "http.request", "body": gzip.compress(json.dumps(body).encode()), "more_body": False}

    return Request(request.scope, receive)


def _described(column: dict[str, Any]) -> tuple[str, str, str, str]:
    kind = column["type"].upper()
    form = TYPES.get(kind, TIMES if kind.startswith("TIME") else kind)
    return column["name"], form.format(**column | {"type": kind}), "COLUMN", "Y" if column["nullable"] else "N"


if __name__ == "__main__":
    arrow.timestamp_to_sf_struct = _with_nulls
    seen = [Route("/statements", lambda _: JSONResponse(statements)), Route("/parts/{number}", fetch)]
    ours = {"/session/v1/login-request": login, "/queries/v1/query-request": query}
    mine = [Route(path, answer, methods=["POST"]) for path, answer in ours.items()]
    uvicorn.run(Starlette(routes=[*seen, *mine, *routes]), port=int(PORT), log_level="warning")
