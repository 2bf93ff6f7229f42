"""A call of AWS's API: which service and operation it asks for, with which parameters; and its answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote


@dataclass
class Answer:
    """What a service answers."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for given, value in self.headers if given.lower() == name), None)

    def with_header(self, name: str, value: str) -> Answer:
        kept = [(given, other) for given, other in self.headers if given.lower() != name.lower()]
        return Answer(self.status, [*kept, (name, value)], self.body)


@dataclass
class Call:
    """One request, as AWS understands it. `caller` is the user's name, or the id of the instance that calls.

    `parameters` are EC2's by its flat names (SubnetId, TagSpecification.1.Tag.1.Key), JSON's as they are, and S3's
    Bucket, Key and what the query says.
    """

    service: str
    operation: str
    parameters: dict[str, Any]
    method: str
    path: str  # as it was sent, escapes and all
    query: str
    headers: dict[str, str]  # by their names in lower case
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
    def by_machine(self) -> bool:
        return self.caller.startswith("i-")


Handler = Callable[[Call], Answer]

S3_BUCKET = {  # method, and the part of the query that tells: S3 has no other names for its operations
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


def read(environ: dict[str, Any]) -> Call:
    """Understand a WSGI request; its body is read, and can be had again from the call."""
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    headers |= {
        name.replace("_", "-").lower(): environ[name]
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH")
        if environ.get(name)
    }
    if environ.get("wsgi.input_terminated"):  # sent in chunks
        body = environ["wsgi.input"].read()
    else:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    path, _, query = (environ.get("REQUEST_URI") or environ["PATH_INFO"]).partition("?")
    call = Call("s3", "", {}, environ["REQUEST_METHOD"], path, query, headers, body, environ)
    scope = call.authorization.get("Credential", "").split("/")
    if len(scope) == 5:
        call.service = scope[3]
    call.operation, call.parameters = _asked(call)
    return call


def _asked(call: Call) -> tuple[str, dict[str, Any]]:
    if target := call.headers.get("x-amz-target"):
        return target.rpartition(".")[2], json.loads(call.body or b"{}")
    if call.service == "s3":
        return _asked_of_s3(call)
    form = dict(parse_qsl(call.body.decode() or call.query, keep_blank_values=True))
    return form.pop("Action", ""), form


def _asked_of_s3(call: Call) -> tuple[str, dict[str, Any]]:
    bucket, _, key = unquote(call.path).lstrip("/").partition("/")
    query = dict(parse_qsl(call.query, keep_blank_values=True))
    if not bucket:
        return "ListBuckets", query
    names = S3_OBJECT if key else S3_BUCKET
    told = next((part for method, part in names if method == call.method and part in query), None)
    named = {"Bucket": bucket, **({"Key": key} if key else {})}
    return names.get((call.method, told), call.method), {**named, **query}
