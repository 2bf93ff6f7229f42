"""AWS's error documents, each service's in its own protocol."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from xml.sax.saxutils import escape

from cloud.call import Answer, Call

JSON = {"ssm", "pricing", "logs", "secretsmanager"}

TOO_OFTEN = {  # how each protocol says that it is asked too often
    "ec2": ("RequestLimitExceeded", "Request limit exceeded.", 503),
    "s3": ("SlowDown", "Please reduce your request rate.", 503),
    "json": ("ThrottlingException", "Rate exceeded", 400),
    "query": ("Throttling", "Rate exceeded", 400),
}


@dataclass
class Refusal(Exception):  # noqa: N818 - AWS's word for it depends on the service
    """A call that is answered with an error."""

    code: str
    message: str
    status: int = 400


def protocol(service: str) -> str:
    """Return the family of documents in which a service speaks: ec2, s3, json or query."""
    if service in ("ec2", "s3"):
        return service
    return "json" if service in JSON else "query"


def document(call: Call, refusal: Refusal) -> Answer:
    """Return the answer that boto3 and curl would have of AWS itself."""
    code, message, request = escape(refusal.code), escape(refusal.message), str(uuid.uuid4())
    declaration = '<?xml version="1.0" encoding="UTF-8"?>\n'
    kind = "text/xml;charset=UTF-8"
    match protocol(call.service):
        case "ec2":
            error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            text = f"{declaration}<Response><Errors>{error}</Errors><RequestID>{request}</RequestID></Response>"
        case "s3":
            kind = "application/xml"
            what = f"<Code>{code}</Code><Message>{message}</Message><Resource>{escape(call.path)}</Resource>"
            text = f"{declaration}<Error>{what}<RequestId>{request}</RequestId></Error>"
            if call.method == "HEAD":
                text = ""
        case "json":
            kind = "application/x-amz-json-1.1"
            text = json.dumps({"__type": refusal.code, "message": refusal.message})
        case _:
            error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            text = f"{declaration}<ErrorResponse>{error}<RequestId>{request}</RequestId></ErrorResponse>"
    headers = [("Content-Type", kind), ("x-amzn-RequestId", request)]
    return Answer(refusal.status, headers, text.encode())
