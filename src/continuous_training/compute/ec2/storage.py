"""The objects in S3: inputs by their hash, and a folder for each attempt at a training.

objects/<sha256>                        code and rows; an object that exists is not uploaded again
runs/<MLflow run>/checkpoint            what an interrupted attempt leaves for the next one
runs/<MLflow run>/<attempt>/heartbeat   the current step, a number that increases, and the use of memory and GPUs
runs/<MLflow run>/<attempt>/log/000000  the log, in chunks
runs/<MLflow run>/<attempt>/result      how the attempt ended
runs/<MLflow run>/search-<number>/...   the same of each instance that only searches
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from continuous_training import progress
from continuous_training.compute.ec2.aws import Aws, error_code, translate_errors
from continuous_training.compute.ec2.usage import Heartbeat
from continuous_training.compute.supervision import FitOutcome
from continuous_training.documents import Value, first_error
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

NOT_FOUND = {"404", "NoSuchKey", "NotFound"}


class Result(Value):
    """How an attempt ended, as the instance reports it: `step` was the last step, `code` its exit code.

    `fit` is the outcome of the fit, if there was one, or else may have the error of an earlier step.
    """

    outcome: Literal["done", "failed", "interrupted", "deadline"]
    step: str
    code: int
    fit: FitOutcome | None = None


def check_bucket(aws: Aws, bucket: str) -> None:
    """Check that instances can use the bucket.

    Raises:
        UserError: it does not exist, access is denied, or it is in another region.
    """
    with translate_errors(f"access the bucket {bucket}"):
        response = aws.s3.head_bucket(Bucket=bucket)
    region = response.get("BucketRegion", aws.region)
    if region != aws.region:  # curl, on the instance, would not follow the redirect
        raise UserError(
            f"the bucket {bucket} is in {region}, but instances are launched in {aws.region}: use a bucket there"
        )


def upload_file(aws: Aws, bucket: str, path: Path) -> str:
    """Upload a file, unless an object with its content exists; return its SHA-256, which is the object's name.

    Raises:
        UserError: S3 refuses.
    """
    from botocore.exceptions import ClientError

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with translate_errors(f"upload {path.name} to the bucket {bucket}"):
        try:
            aws.s3.head_object(Bucket=bucket, Key=f"objects/{digest}")
        except ClientError as error:
            if error_code(error) not in NOT_FOUND:
                raise
            with progress.bar(f"{path.name} to S3, bytes", path.stat().st_size) as advance:
                aws.s3.upload_file(str(path), bucket, f"objects/{digest}", Callback=advance)
    return digest


@dataclass
class AttemptFolder:
    """The folder that the instance of one attempt writes to. `key` is the folder's key, without a trailing slash."""

    aws: Aws
    bucket: str
    key: str
    _last_chunk: str = ""

    def read_heartbeat(self) -> Heartbeat | None:
        """Return the newest heartbeat, or None before the first."""
        body = self._read(f"{self.key}/heartbeat")
        return Heartbeat.parse(body.decode(errors="replace")) if body else None

    def read_result(self) -> Result | None:
        """Return how the attempt ended, or None while there is no result.

        Raises:
            UserError: the object is not a valid result.
        """
        body = self._read(f"{self.key}/result")
        if body is None:
            return None
        try:
            return Result.model_validate_json(body)
        except ValidationError as error:
            raise UserError(
                f"s3://{self.bucket}/{self.key}/result is not a valid result: {first_error(error)}"
            ) from error

    def read_new_log(self) -> bytes:
        """Return the chunks of the log that were not returned before."""
        with translate_errors(f"list s3://{self.bucket}/{self.key}"):
            start = self._last_chunk or f"{self.key}/log/"
            response = self.aws.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{self.key}/log/", StartAfter=start)
        chunks = []
        for key in sorted(entry["Key"] for entry in response.get("Contents", [])):
            chunks.append(self._read(key) or b"")
            self._last_chunk = key
        return b"".join(chunks)

    def _read(self, key: str) -> bytes | None:
        from botocore.exceptions import ClientError

        with translate_errors(f"read s3://{self.bucket}/{key}"):
            try:
                body: bytes = self.aws.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            except ClientError as error:
                if error_code(error) in NOT_FOUND:
                    return None
                raise
        return body
