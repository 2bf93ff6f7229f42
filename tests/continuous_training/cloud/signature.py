"""Signature Version 4, checked as AWS checks it: from the request as it came, not as its client meant it.

Stricter than moto: what is escaped is decoded and escaped anew by AWS's own rules, each x-amz- header must be signed,
S3 needs x-amz-content-sha256 and compares it with the body, the clock may differ by 15 minutes.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote

from cloud.call import Call
from cloud.errors import Refusal, protocol

SKEW = timedelta(minutes=15)

NO_KEY, NO_TOKEN, WRONG, SKEWED = range(4)
SAID = {
    "ec2": (("AuthFailure", 401), ("AuthFailure", 401), ("AuthFailure", 401), ("RequestExpired", 400)),
    "s3": (
        ("InvalidAccessKeyId", 403),
        ("InvalidToken", 400),
        ("SignatureDoesNotMatch", 403),
        ("RequestTimeTooSkewed", 403),
    ),
    "json": (
        ("UnrecognizedClientException", 400),
        ("UnrecognizedClientException", 400),
        ("InvalidSignatureException", 400),
        ("InvalidSignatureException", 400),
    ),
    "query": (
        ("InvalidClientTokenId", 403),
        ("InvalidClientTokenId", 403),
        ("SignatureDoesNotMatch", 403),
        ("SignatureDoesNotMatch", 403),
    ),
}


def refusal(call: Call, kind: int, message: str) -> Refusal:
    """Return a refusal of a call's credentials in the words of its service."""
    code, status = SAID[protocol(call.service)][kind]
    return Refusal(code, message, status)


def verify(call: Call, secret: str, now: datetime) -> None:
    """See that the call was signed with this secret.

    Raises:
        Refusal: it was not, or not everything that must be signed was, or too long ago.
    """
    given = call.authorization
    _, day, region, service, _ = given["Credential"].split("/")
    signed = given["SignedHeaders"].split(";")
    stamp = call.headers.get("x-amz-date", "")
    if not stamp.startswith(day):
        raise refusal(call, WRONG, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date")
    if abs(datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) - now) > SKEW:
        raise refusal(call, SKEWED, "The difference between the request time and the current time is too large.")
    unsigned = [name for name in call.headers if (name == "host" or name.startswith("x-amz-")) and name not in signed]
    if unsigned:
        message = f"There were headers present in the request which were not signed: {', '.join(unsigned)}"
        raise Refusal("AccessDenied", message, 403) if service == "s3" else refusal(call, WRONG, message)
    request = _canonical(call, signed, _payload(call))
    text = "\n".join(
        ["AWS4-HMAC-SHA256", stamp, f"{day}/{region}/{service}/aws4_request", hashlib.sha256(request).hexdigest()]
    )
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request", text):
        key = hmac.digest(key, part.encode(), "sha256")
    if not hmac.compare_digest(key.hex(), given.get("Signature", "")):
        raise refusal(call, WRONG, "The request signature we calculated does not match the signature you provided.")


def _payload(call: Call) -> str:
    """Return the body's hash as the signature has it; S3 alone lets the caller say it, or leave it out."""
    found = hashlib.sha256(call.body).hexdigest()
    if call.service != "s3":
        return found
    told = call.headers.get("x-amz-content-sha256")
    if told is None:
        raise Refusal("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    if told not in (found, "UNSIGNED-PAYLOAD") and not told.startswith("STREAMING-"):
        raise Refusal("XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match")
    return told


def _canonical(call: Call, signed: list[str], payload: str) -> bytes:
    escaped = quote(unquote(call.path), safe="/-_.~")
    path = escaped if call.service == "s3" else quote(escaped, safe="/-_.~")
    pairs = [
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(call.query, keep_blank_values=True)
    ]
    query = "&".join(f"{name}={value}" for name, value in sorted(pairs))
    headers = "".join(f"{name}:{' '.join(call.headers.get(name, '').split())}\n" for name in signed)
    return "\n".join([call.method, path, query, headers, ";".join(signed), payload]).encode()
