"""Ending what this project has on AWS: instances, and what they and a broken upload leave behind."""

from __future__ import annotations

import logging
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from continuous_training.compute.ec2.aws import Aws, code, saying, tagged
from continuous_training.compute.ec2.launch import DEADLINE, OF_RUN
from continuous_training.compute.ec2.place import PROJECT
from continuous_training.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

log = logging.getLogger(__name__)

ALIVE = ("pending", "running", "stopping", "stopped")  # a stopped one still costs its volume
WAITS = (1, 2, 4, 8, 16)  # seconds between attempts to end an instance, beyond those that botocore makes of each
TARDY = timedelta(minutes=5)  # an instance past its deadline has this long to say its last words
YOUNG = timedelta(minutes=10)  # a volume may be on its way to an instance for so long
UPLOADS_TAKE = timedelta(hours=6)  # as long as a run may: an upload begun before that will not be finished


@dataclass(frozen=True)
class Instance:
    """An instance of this project that is alive; without a deadline that can be read it counts as past it."""

    id: str
    type: str
    run: str
    launched: datetime
    deadline: datetime | None


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let no signal interrupt the ending of instances: whoever is impatient would leave one alive."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    return Instance(
        found["InstanceId"], found["InstanceType"], tags.get(OF_RUN, ""), found["LaunchTime"], _moment(tags)
    )


def _moment(tags: dict[str, str]) -> datetime | None:
    try:
        moment = datetime.fromisoformat(tags.get(DEADLINE, ""))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def end(aws: Aws, instances: Iterable[str]) -> None:
    """End instances, each by itself, so that one which cannot be ended keeps none of the others alive.

    Raises:
        Problem: one could not be ended; its own deadline still stands.
    """
    stubborn = {instance: said for instance in instances if (said := _end(aws, instance))}
    if stubborn:
        told = "; ".join(f"{instance}: {said}" for instance, said in stubborn.items())
        raise Problem(f"not ended, end it by hand (its own deadline stands): {told}")


def end_all(aws: Aws, known: list[str], run: str) -> None:
    """End the instances of a run: those that are known, and those that were launched without anybody's hearing of it.

    Raises:
        Problem: one could not be ended.
    """
    try:
        end(aws, known)
    finally:
        end(aws, [instance.id for instance in living(aws, run)])


def _end(aws: Aws, instance: str) -> str | None:
    """End one instance; return why it could not be ended."""
    from botocore.exceptions import BotoCoreError, ClientError

    said = ""
    for wait in (*WAITS, None):
        try:
            aws.ec2.terminate_instances(InstanceIds=[instance])
        except ClientError as error:
            if code(error) == "InvalidInstanceID.NotFound":
                return None
            said = f"{code(error)}: {error.response['Error'].get('Message', '')}"
        except BotoCoreError as error:
            said = str(error)
        else:
            return None
        if wait is not None:
            log.warning("%s is not ended yet (%s); once more in %d s", instance, said, wait)
            time.sleep(wait)
    return said


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
        with saying(f"delete the volume {volume}"):
            aws.ec2.delete_volume(VolumeId=volume)
    return left


def abort_uploads(aws: Aws, bucket: str) -> list[str]:
    """Abort the uploads to the bucket that nobody finishes any more; return their keys."""
    with saying(f"list the unfinished uploads of the bucket {bucket}"):
        pages = aws.s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
        found = [upload for page in pages for upload in page.get("Uploads", [])]
    left = [upload for upload in found if upload["Initiated"] < aws.now - UPLOADS_TAKE]
    for upload in left:
        with saying(f"abort the upload of {upload['Key']}"):
            aws.s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return [upload["Key"] for upload in left]
