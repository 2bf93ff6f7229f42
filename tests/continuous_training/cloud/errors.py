"""AWS's errors, in the protocol of each service."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from xml.sax.saxutils import escape

from cloud.call import Call, Response

JSON = {"ssm", "pricing", "logs", "secretsmanager"}

THROTTLING = {  # code, message and status, by protocol
    "ec2": ("RequestLimitExceeded", "Request limit exceeded.", 503),
    "s3": ("SlowDown", "Please reduce your request rate.", 503),
    "json": ("ThrottlingException", "Rate exceeded", 400),
    "query": ("Throttling", "Rate exceeded", 400),
}


@dataclass
class ApiError(Exception):
    """An error response to a call."""

    code: str
    message: str
    status: int = 400


def protocol(service: str) -> str:
    """Return the protocol of a service: ec2, s3, json or query."""
    if service in ("ec2", "s3"):
        return service
    return "json" if service in JSON else "query"


def error_response(call: Call, error: ApiError) -> Response:
    """Return the response that AWS would send to boto3 and curl."""
    code, message, request = escape(error.code), escape(error.message), str(uuid.uuid4())
    declaration = '<?xml version="1.0" encoding="UTF-8"?>\n'
    kind = "text/xml;charset=UTF-8"
    match protocol(call.service):
        case "ec2":
            element = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            text = f"{declaration}<Response><Errors>{element}</Errors><RequestID>{request}</RequestID></Response>"
        case "s3":
            kind = "application/xml"
            content = f"<Code>{code}</Code><Message>{message}</Message><Resource>{escape(call.path)}</Resource>"
            text = f"{declaration}<Error>{content}<RequestId>{request}</RequestId></Error>"
            if call.method == "HEAD":
                text = ""
        case "json":
            kind = "application/x-amz-json-1.1"
            text = json.dumps({"__type": error.code, "message": error.message})
        case _:
            element = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            text = f"{declaration}<ErrorResponse>{element}<RequestId>{request}</RequestId></ErrorResponse>"
    headers = [("Content-Type", kind), ("x-amzn-RequestId", request)]
    return Response(error.status, headers, text.encode())
