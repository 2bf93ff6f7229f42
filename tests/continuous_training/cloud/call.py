"""A call of AWS's API, with its service, operation and parameters; and its response."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote


@dataclass
class Response:
    """The response of a service."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for header, value in self.headers if header.lower() == name), None)

    def with_header(self, name: str, value: str) -> Response:
        others = [header for header in self.headers if header[0].lower() != name.lower()]
        return Response(self.status, [*others, (name, value)], self.body)


@dataclass
class Call:
    """A call. `caller` is the name of the user, or the id of the calling instance.

    `parameters` of EC2 have flat names (SubnetId, TagSpecification.1.Tag.1.Key), those of JSON services are the
    document, and those of S3 are Bucket, Key and the query.
    """

    service: str
    operation: str
    parameters: dict[str, Any]
    method: str
    path: str  # with its escapes, as in the request
    query: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    environ: dict[str, Any] = field(repr=False)
    caller: str = ""

    @property
    def authorization(self) -> dict[str, str]:
        """The parts of the header Authorization: Credential, SignedHeaders and Signature."""
        _, _, parts = self.headers.get("authorization", "").partition(" ")
        return dict(part.strip().partition("=")[::2] for part in parts.split(",") if part.strip())

    @property
    def access_key(self) -> str:
        return self.authorization.get("Credential", "").partition("/")[0]

    @property
    def is_from_instance(self) -> bool:
        return self.caller.startswith("i-")


Handler = Callable[[Call], Response]

S3_BUCKET = {  # by method and query parameter: S3 does not name its operations
    ("GET", "location"): "GetBucketLocation",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", None): "ListObjects",
    ("HEAD", None): "HeadBucket",
    ("PUT", None): "CreateBucket",
    ("DELETE", None): "DeleteBucket",
}
S3_OBJECT = {
    ("GET", "uploadId"): "ListParts",
    ("PUT", "uploadId"): "UploadPart",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("GET", "tagging"): "GetObjectTagging",
    ("PUT", "tagging"): "PutObjectTagging",
    ("GET", None): "GetObject",
    ("HEAD", None): "HeadObject",
    ("PUT", None): "PutObject",
    ("DELETE", None): "DeleteObject",
}


def parse_call(environ: dict[str, Any]) -> Call:
    """Parse a WSGI request; this consumes its body, which is in the call."""
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    headers |= {
        name.replace("_", "-").lower(): environ[name]
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH")
        if environ.get(name)
    }
    if environ.get("wsgi.input_terminated"):  # with chunks
        body = environ["wsgi.input"].read()
    else:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    path, _, query = (environ.get("REQUEST_URI") or environ["PATH_INFO"]).partition("?")
    call = Call("s3", "", {}, environ["REQUEST_METHOD"], path, query, headers, body, environ)
    scope = call.authorization.get("Credential", "").split("/")
    if len(scope) == 5:
        call.service = scope[3]
    call.operation, call.parameters = _parse_operation(call)
    return call


def _parse_operation(call: Call) -> tuple[str, dict[str, Any]]:
    if target := call.headers.get("x-amz-target"):
        return target.rpartition(".")[2], json.loads(call.body or b"{}")
    if call.service == "s3":
        return _parse_s3_operation(call)
    form = dict(parse_qsl(call.body.decode() or call.query, keep_blank_values=True))
    return form.pop("Action", ""), form


def _parse_s3_operation(call: Call) -> tuple[str, dict[str, Any]]:
    bucket, _, key = unquote(call.path).lstrip("/").partition("/")
    query = dict(parse_qsl(call.query, keep_blank_values=True))
    if not bucket:
        return "ListBuckets", query
    names = S3_OBJECT if key else S3_BUCKET
    parameter = next((name for method, name in names if method == call.method and name in query), None)
    resource = {"Bucket": bucket, **({"Key": key} if key else {})}
    return names.get((call.method, parameter), call.method), {**resource, **query}
