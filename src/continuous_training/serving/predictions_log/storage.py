"""Where the predictions log is stored: a folder, or an S3 bucket."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa


class FolderStorage:
    """A local or mounted folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, name: str, content: pa.Buffer) -> None:
        """Write a file atomically: under a temporary name that readers ignore, synced to disk, then renamed."""
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".unfinished")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        for folder in (path.parent, path.parent.parent, self._path):  # their entries must survive a power failure too
            descriptor = os.open(folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


class BucketStorage:
    """An S3 bucket. Credentials and region are found as boto3 finds them."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def write(self, name: str, content: pa.Buffer) -> None:
        """Write one object, which S3 makes visible once it is complete."""
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=content.to_pybytes())

    def download(self, prefix: str, select: Callable[[str], bool], folder: Path) -> list[Path]:
        """Download objects to a folder, and return their paths.

        Args:
            prefix: the start of the objects' names.
            select: whether to download an object, by the rest of its name.
            folder: where to write them.
        """
        start = self._prefix + prefix
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start)
        paths = []
        for key in [item["Key"] for page in pages for item in page.get("Contents", ())]:
            name = key.removeprefix(start)
            if select(name):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                self._client.download_file(self._bucket, key, str(path))
                paths.append(path)
        return paths

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 creates its clients' classes at run time
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=3,
            read_timeout=20,
            retries={"mode": "standard", "total_max_attempts": 2},  # the journals' mover retries too
            s3={"addressing_style": "path"},
        )
        return boto3.Session().client("s3", config=config)


def open_storage(address: str) -> FolderStorage | BucketStorage:
    """Return the storage at an address: a folder, or s3://bucket/prefix.

    Raises:
        UserError: the address is invalid.
    """
    scheme, separator, rest = address.partition("://")
    if address and not separator:
        return FolderStorage(Path(address))
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise UserError(f"'{address}' is no address for the predictions log: use a folder, or s3://bucket/prefix")
    return BucketStorage(bucket, prefix.strip("/"))
