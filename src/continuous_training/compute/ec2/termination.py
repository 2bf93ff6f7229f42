"""Terminating instances, and deleting the volumes and unfinished uploads that are left behind."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from continuous_training.compute.ec2.aws import Aws, error_code, ignore_errors, translate_errors
from continuous_training.compute.ec2.tags import DEADLINE_TAG, RUN_TAG, read_tags, run_filters
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

BILLED_STATES = ("pending", "running", "stopping", "stopped")  # a stopped instance still has its volume
VOLUME_DELETED = {"InvalidVolume.NotFound", "VolumeInUse"}  # EC2 was faster
INSTANCE_NOT_FOUND = "InvalidInstanceID.NotFound"
RETRY_SECONDS = (1, 2, 4, 8, 16)  # between attempts to terminate, each of which botocore retries too
DEADLINE_GRACE = timedelta(minutes=5)  # for an instance past its deadline to upload its last log
MIN_VOLUME_AGE = timedelta(minutes=10)  # a younger volume may be about to be attached
MAX_UPLOAD_DURATION = timedelta(hours=6)  # as long as a run may take: an older upload will not be finished


@dataclass(frozen=True)
class ProjectInstance:
    """An instance of this project, by its tags. `deadline` is None if the tag is missing or malformed."""

    id: str
    run: str
    deadline: datetime | None


def list_instances(aws: Aws, run: str | None = None) -> list[ProjectInstance]:
    """Return this project's instances that are not terminated: all, or those of one run (`tags.run_identifier`)."""
    filters = [*run_filters(run), {"Name": "instance-state-name", "Values": list(BILLED_STATES)}]
    with translate_errors("list this project's instances"):
        pages = aws.ec2.get_paginator("describe_instances").paginate(Filters=filters)
        descriptions = [
            instance for page in pages for reservation in page["Reservations"] for instance in reservation["Instances"]
        ]
    return [_to_instance(description) for description in descriptions]


def _to_instance(description: dict[str, Any]) -> ProjectInstance:
    tags = read_tags(description)
    return ProjectInstance(description["InstanceId"], tags.get(RUN_TAG, ""), _parse_deadline(tags))


def _parse_deadline(tags: dict[str, str]) -> datetime | None:
    try:
        deadline = datetime.fromisoformat(tags.get(DEADLINE_TAG, ""))
    except ValueError:
        return None
    return deadline if deadline.tzinfo else deadline.replace(tzinfo=UTC)


def terminate_instances(aws: Aws, instance_ids: Iterable[str]) -> None:
    """Terminate instances, each by a call of its own, so that a failure affects no other.

    Raises:
        UserError: one could not be terminated; its own deadline still applies.
    """
    failures = {instance_id: message for instance_id in instance_ids if (message := _terminate(aws, instance_id))}
    if failures:
        details = "; ".join(f"{instance_id}: {message}" for instance_id, message in failures.items())
        raise UserError(f"not terminated, terminate it by hand (its own deadline still applies): {details}")


def terminate_run(aws: Aws, instance_ids: list[str], run: str) -> None:
    """Terminate the instances of a run: the given ones, then all with the run's tag.

    The latter include an instance whose launch succeeded although its response was lost.

    Raises:
        UserError: one could not be terminated.
    """
    try:
        terminate_instances(aws, instance_ids)
    finally:
        terminate_instances(aws, [instance.id for instance in list_instances(aws, run)])


def _terminate(aws: Aws, instance_id: str) -> str | None:
    """Terminate an instance, with retries; return the error message if that fails.

    EC2 may not find an instance that was launched a moment ago. One that it never finds does not exist.
    """
    from botocore.exceptions import ClientError

    message, missing = "", False
    for delay in (*RETRY_SECONDS, None):
        try:
            with translate_errors(f"terminate {instance_id}"):
                aws.ec2.terminate_instances(InstanceIds=[instance_id])
        except UserError as error:
            cause = error.__cause__
            missing = isinstance(cause, ClientError) and error_code(cause) == INSTANCE_NOT_FOUND
            message = str(error)
        else:
            return None
        if delay is not None:
            log.warning("%s; retrying in %d s", message, delay)
            time.sleep(delay)
    return None if missing else message


def delete_orphaned_volumes(aws: Aws, run: str | None = None) -> list[str]:
    """Delete volumes of this project, or of one run, that no instance uses; return their ids."""
    filters = [*run_filters(run), {"Name": "status", "Values": ["available"]}]
    with translate_errors("list this project's volumes"):
        pages = aws.ec2.get_paginator("describe_volumes").paginate(Filters=filters)
        volumes = [volume for page in pages for volume in page["Volumes"]]
    volume_ids = [volume["VolumeId"] for volume in volumes if volume["CreateTime"] < aws.now - MIN_VOLUME_AGE]
    for volume_id in volume_ids:
        with translate_errors(f"delete the volume {volume_id}"), ignore_errors(VOLUME_DELETED):
            aws.ec2.delete_volume(VolumeId=volume_id)
    return volume_ids


def abort_stale_uploads(aws: Aws, bucket: str) -> list[str]:
    """Abort multipart uploads to the bucket that were never finished; return their keys."""
    with translate_errors(f"list the unfinished uploads of the bucket {bucket}"):
        pages = aws.s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix="objects/")
        uploads = [upload for page in pages for upload in page.get("Uploads", [])]
    stale = [upload for upload in uploads if upload["Initiated"] < aws.now - MAX_UPLOAD_DURATION]
    for upload in stale:
        with translate_errors(f"abort the upload of {upload['Key']}"), ignore_errors({"NoSuchUpload"}):
            aws.s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return [upload["Key"] for upload in stale]
