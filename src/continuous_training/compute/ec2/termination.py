"""Ending what this project has on AWS: instances, and what they and a broken upload leave behind."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from continuous_training.compute.ec2.account import DEADLINE, OF_RUN, PROJECT
from continuous_training.compute.ec2.aws import Aws, saying, tagged, unless
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

ALIVE = ("pending", "running", "stopping", "stopped")  # a stopped one still costs its volume
GONE = {"InvalidVolume.NotFound", "VolumeInUse"}  # EC2 was quicker
NOT_FOUND = "InvalidInstanceID.NotFound"
WAITS = (1, 2, 4, 8, 16)  # seconds between attempts to end an instance, beyond those that botocore makes of each
TARDY = timedelta(minutes=5)  # an instance past its deadline has this long to say its last words
YOUNG = timedelta(minutes=10)  # a volume may be on its way to an instance for so long
UPLOADS_TAKE = timedelta(hours=6)  # as long as a run may: an upload begun before that will not be finished


@dataclass(frozen=True)
class Instance:
    """An instance of this project that is alive; without a deadline that can be read it counts as past it."""

    id: str
    run: str
    deadline: datetime | None


def living(aws: Aws, run: str | None = None) -> list[Instance]:
    """Return this project's instances that are alive: all, or those of one run."""
    filters = [
        {"Name": "tag:ct:project", "Values": [PROJECT]},
        {"Name": "instance-state-name", "Values": list(ALIVE)},
        *([{"Name": f"tag:{OF_RUN}", "Values": [run]}] if run else []),
    ]
    with saying("list this project's instances"):
        pages = aws.ec2.get_paginator("describe_instances").paginate(Filters=filters)
        found = [one for page in pages for reserved in page["Reservations"] for one in reserved["Instances"]]
    return [_instance(one) for one in found]


def _instance(found: dict[str, Any]) -> Instance:
    tags = tagged(found)
    return Instance(found["InstanceId"], tags.get(OF_RUN, ""), _moment(tags))


def _moment(tags: dict[str, str]) -> datetime | None:
    try:
        moment = datetime.fromisoformat(tags.get(DEADLINE, ""))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def end(aws: Aws, instances: Iterable[str]) -> None:
    """End instances, each by itself, so that one which cannot be ended keeps none of the others alive.

    Raises:
        UserError: one could not be ended; its own deadline still stands.
    """
    stubborn = {instance: message for instance in instances if (message := _end(aws, instance))}
    if stubborn:
        told = "; ".join(f"{instance}: {message}" for instance, message in stubborn.items())
        raise UserError(f"not ended, end it by hand (its own deadline stands): {told}")


def end_all(aws: Aws, known: list[str], run: str) -> None:
    """End the instances of a run: those that are known, and those that were launched without anybody's hearing of it.

    Raises:
        UserError: one could not be ended.
    """
    try:
        end(aws, known)
    finally:
        end(aws, [instance.id for instance in living(aws, run)])


def _end(aws: Aws, instance: str) -> str | None:
    """End one instance; return why it could not be ended.

    One that EC2 does not find may have been launched a moment ago: it is gone only if it is never found.
    """
    message = ""
    for wait in (*WAITS, None):
        try:
            with saying(f"end {instance}"):
                aws.ec2.terminate_instances(InstanceIds=[instance])
        except UserError as problem:
            message = str(problem)
        else:
            return None
        if wait is not None:
            log.warning("%s; once more in %d s", message, wait)
            time.sleep(wait)
    return None if NOT_FOUND in message else message


def delete_volumes(aws: Aws, run: str | None = None) -> list[str]:
    """Delete this project's volumes, or those of one run, that belong to no instance any more; return their ids."""
    filters = [
        {"Name": "tag:ct:project", "Values": [PROJECT]},
        {"Name": "status", "Values": ["available"]},
        *([{"Name": f"tag:{OF_RUN}", "Values": [run]}] if run else []),
    ]
    with saying("list this project's volumes"):
        pages = aws.ec2.get_paginator("describe_volumes").paginate(Filters=filters)
        found = [volume for page in pages for volume in page["Volumes"]]
    left = [volume["VolumeId"] for volume in found if volume["CreateTime"] < aws.now - YOUNG]
    for volume in left:
        with saying(f"delete the volume {volume}"), unless(GONE):
            aws.ec2.delete_volume(VolumeId=volume)
    return left


def abort_uploads(aws: Aws, bucket: str) -> list[str]:
    """Abort the uploads to the bucket that nobody finishes any more; return their keys."""
    with saying(f"list the unfinished uploads of the bucket {bucket}"):
        pages = aws.s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix="objects/")
        found = [upload for page in pages for upload in page.get("Uploads", [])]
    left = [upload for upload in found if upload["Initiated"] < aws.now - UPLOADS_TAKE]
    for upload in left:
        with saying(f"abort the upload of {upload['Key']}"), unless({"NoSuchUpload"}):
            aws.s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return [upload["Key"] for upload in left]
