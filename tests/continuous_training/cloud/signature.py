"""Verifies Signature Version 4 as AWS does.

Stricter than moto: escapes are decoded and encoded again by AWS's rules, all x-amz- headers must be signed, S3 requires
x-amz-content-sha256 and compares it with the body, and the clocks may differ by 15 minutes.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote

from cloud.call import Call
from cloud.errors import ApiError, protocol

MAX_SKEW = timedelta(minutes=15)

NO_KEY, NO_TOKEN, WRONG, SKEWED = range(4)
ERRORS = {  # code and status, by protocol, for each of these
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


def credentials_error(call: Call, kind: int, message: str) -> ApiError:
    """Return the error of a call's service for wrong credentials."""
    code, status = ERRORS[protocol(call.service)][kind]
    return ApiError(code, message, status)


def verify(call: Call, secret: str, now: datetime) -> None:
    """Check that the call was signed with this secret.

    Raises:
        ApiError: it was not, a required header is not signed, or the time differs too much.
    """
    authorization = call.authorization
    _, day, region, service, _ = authorization["Credential"].split("/")
    signed_headers = authorization["SignedHeaders"].split(";")
    stamp = call.headers.get("x-amz-date", "")
    if not stamp.startswith(day):
        raise credentials_error(
            call, WRONG, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date"
        )
    if abs(datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) - now) > MAX_SKEW:
        raise credentials_error(
            call, SKEWED, "The difference between the request time and the current time is too large."
        )
    unsigned = [
        name for name in call.headers if (name == "host" or name.startswith("x-amz-")) and name not in signed_headers
    ]
    if unsigned:
        message = f"There were headers present in the request which were not signed: {', '.join(unsigned)}"
        raise ApiError("AccessDenied", message, 403) if service == "s3" else credentials_error(call, WRONG, message)
    request = _canonical_request(call, signed_headers, _payload_hash(call))
    text = "\n".join(
        ["AWS4-HMAC-SHA256", stamp, f"{day}/{region}/{service}/aws4_request", hashlib.sha256(request).hexdigest()]
    )
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request", text):
        key = hmac.digest(key, part.encode(), "sha256")
    if not hmac.compare_digest(key.hex(), authorization.get("Signature", "")):
        raise credentials_error(
            call, WRONG, "The request signature we calculated does not match the signature you provided."
        )


def _payload_hash(call: Call) -> str:
    """Return the body's hash for the signature; for S3 the header has it, or says that it is unsigned."""
    actual = hashlib.sha256(call.body).hexdigest()
    if call.service != "s3":
        return actual
    declared = call.headers.get("x-amz-content-sha256")
    if declared is None:
        raise ApiError("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    if declared not in (actual, "UNSIGNED-PAYLOAD") and not declared.startswith("STREAMING-"):
        raise ApiError("XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match")
    return declared


def _canonical_request(call: Call, signed_headers: list[str], payload_hash: str) -> bytes:
    escaped = quote(unquote(call.path), safe="/-_.~")
    path = escaped if call.service == "s3" else quote(escaped, safe="/-_.~")
    pairs = [
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(call.query, keep_blank_values=True)
    ]
    query = "&".join(f"{name}={value}" for name, value in sorted(pairs))
    headers = "".join(f"{name}:{' '.join(call.headers.get(name, '').split())}\n" for name in signed_headers)
    return "\n".join([call.method, path, query, headers, ";".join(signed_headers), payload_hash]).encode()
