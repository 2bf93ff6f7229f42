"""What lies in S3: inputs by their hash, and a folder for each attempt of each trial.

objects/<sha256>                        code and rows: what is there already is not sent again
runs/<MLflow run>/checkpoint            what an interrupted attempt leaves to the next
runs/<MLflow run>/<attempt>/heartbeat   the state, and a number that grows
runs/<MLflow run>/<attempt>/log/000000  the log, in the pieces in which it grew
runs/<MLflow run>/<attempt>/result      how it ended
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from continuous_training import progress
from continuous_training.compute.ec2.aws import Aws, code, saying
from continuous_training.documents import Value, first_error
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

ABSENT = {"404", "NoSuchKey", "NotFound"}


class Result(Value):
    """What an instance says of its end: `step` is what it was at, `code` the exit code of that."""

    outcome: Literal["done", "failed", "interrupted", "deadline"]
    step: str
    code: int


def examine(aws: Aws, bucket: str) -> None:
    """See that the bucket can be used by instances.

    Raises:
        UserError: it is not there, or lies in another region.
    """
    with saying(f"look into the bucket {bucket}"):
        found = aws.s3.head_bucket(Bucket=bucket)
    if (lies := found.get("BucketRegion", aws.region)) != aws.region:  # curl, on the instance, is not led there
        raise UserError(
            f"the bucket {bucket} lies in {lies}, and instances are launched in {aws.region}: use one of there"
        )


def keep(aws: Aws, bucket: str, path: Path) -> str:
    """Send a file to S3 unless it is there already; return its SHA-256, by which it is found.

    Raises:
        UserError: the bucket refuses.
    """
    from botocore.exceptions import ClientError

    with path.open("rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()
    with saying(f"keep {path.name} in the bucket {bucket}"):
        try:
            aws.s3.head_object(Bucket=bucket, Key=f"objects/{name}")
        except ClientError as error:
            if code(error) not in ABSENT:
                raise
            with progress.bar(f"{path.name} to S3, bytes", path.stat().st_size) as advance:
                aws.s3.upload_file(str(path), bucket, f"objects/{name}", Callback=advance)
    return name


@dataclass
class Folder:
    """What one attempt writes to S3, as it is read from here."""

    aws: Aws
    bucket: str
    path: str
    _read: str = ""

    def heartbeat(self) -> str | None:
        """Return the newest heartbeat: the state, a blank, and a number."""
        found = self._get(f"{self.path}/heartbeat")
        return found.decode(errors="replace") if found else None

    def result(self) -> Result | None:
        """Return how the attempt ended, if it has said so.

        Raises:
            UserError: it said something else.
        """
        found = self._get(f"{self.path}/result")
        if found is None:
            return None
        try:
            return Result.model_validate_json(found)
        except ValidationError as error:
            raise UserError(f"s3://{self.bucket}/{self.path}/result is not a result: {first_error(error)}") from error

    def grown(self) -> bytes:
        """Return the pieces of the log that were not returned before."""
        with saying(f"list s3://{self.bucket}/{self.path}"):
            after = self._read or f"{self.path}/log/"
            found = self.aws.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{self.path}/log/", StartAfter=after)
        pieces = []
        for key in sorted(entry["Key"] for entry in found.get("Contents", [])):
            pieces.append(self._get(key) or b"")
            self._read = key
        return b"".join(pieces)

    def _get(self, key: str) -> bytes | None:
        from botocore.exceptions import ClientError

        with saying(f"read s3://{self.bucket}/{key}"):
            try:
                body: bytes = self.aws.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            except ClientError as error:
                if code(error) in ABSENT:
                    return None
                raise
        return body
