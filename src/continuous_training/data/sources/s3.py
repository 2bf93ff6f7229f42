"""Files on S3, for DuckDB: Arrow's S3 client behind the fsspec interface that DuckDB accepts.

DuckDB's own S3 extension is not part of its package: DuckDB would download it. Credentials and region come from AWS's
environment variables, profiles or the instance's role; AWS_ENDPOINT_URL names another S3 server.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase

from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow import fs

from continuous_training.errors import UserError

SCHEME = "s3://"
TIMEOUT = 30.0  # seconds
ATTEMPTS = 4
WILDCARDS = "*?["


class S3FileSystem(ArrowFSWrapper):  # type: ignore[misc] # fsspec has no types
    """Arrow's S3 client as an fsspec filesystem."""

    protocol = "s3"


def connect() -> S3FileSystem:
    """Create the client."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    client = fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        connect_timeout=TIMEOUT,
        request_timeout=TIMEOUT,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )
    return S3FileSystem(client)


def list_files(filesystem: S3FileSystem, address: str) -> list[str]:
    """Return the objects that an s3:// address names: one object, all below a prefix, or those that match a pattern.

    Raises:
        UserError: there are none, or they may not be listed.
    """
    path = address.removeprefix(SCHEME)
    pattern = next((place for place, character in enumerate(path) if character in WILDCARDS), None)
    folder = path if pattern is None else path[:pattern].rpartition("/")[0]
    client = filesystem.fs
    try:
        info = client.get_file_info(folder.rstrip("/"))
        if info.type == fs.FileType.File:
            return [address]
        entries = client.get_file_info(fs.FileSelector(folder.rstrip("/"), recursive=True, allow_not_found=True))
    except OSError as error:
        raise UserError(f"data.source {address} cannot be listed: {str(error).splitlines()[0]}") from error
    files = sorted(entry.path for entry in entries if entry.type == fs.FileType.File)
    if pattern is not None:
        files = [file for file in files if fnmatchcase(file, path)]
    if not files:
        raise UserError(f"data.source: there is no object {address}")
    return [f"{SCHEME}{file}" for file in files]
