"""Making images of instances, and removing the old ones."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from continuous_training.compute.ec2 import images
from continuous_training.compute.ec2.account import PROJECT
from continuous_training.compute.ec2.aws import saying, tagged, unless
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from continuous_training.compute.ec2.aws import Aws

log = logging.getLogger(__name__)

LOOKS_EVERY = 5  # seconds
TOLD_EVERY = 60  # seconds
PATIENCE = 45 * 60  # seconds: EC2 copies the whole disk, mostly within ten minutes
GONE = {"InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidSnapshot.NotFound"}
USED = "InvalidSnapshot.InUse"
ALREADY = "InvalidAMIName.Duplicate"  # the call was made again, because its answer was lost


def create(aws: Aws, instance: str, lock: str, commit: str) -> str:
    """Make an image of an instance, which goes on running; return the image's id once it can be used.

    It is not rebooted for that, as a reboot would forget its dead-man switch.

    Raises:
        UserError: AWS fails, or takes too long; what there was of the image is removed, also on an interrupt.
    """
    name = f"{PROJECT} {instance}"  # by which it is found, however the call ended
    tags = {"Name": name, "ct:project": PROJECT, images.LOCK: lock, "ct:commit": commit}
    try:
        _begin(aws, instance, name, [{"Key": key, "Value": value} for key, value in tags.items()])
        return _finished(aws, name)
    except BaseException:
        try:
            _remove(aws, [image["ImageId"] for image in _named(aws, name)])
        except UserError as problem:
            log.error("The image %s, which is not to be used, may be there: %s", name, problem)  # noqa: TRY400
        raise


def prune(aws: Aws, keep: int, spared: str | None) -> list[str]:
    """Remove all baked images but the newest, those that failed, and snapshots of which there is no image any more.

    Args:
        aws: the account.
        keep: how many stay.
        spared: the id of an image that stays in any case.

    Returns:
        The ids of what was removed.
    """
    failed = [image for image in images.of_project(aws) if image["State"] not in {"available", "pending"}]
    old = [image["ImageId"] for image in (*images.baked(aws)[keep:], *failed) if image["ImageId"] != spared]
    return _remove(aws, old)


def _named(aws: Aws, name: str) -> list[dict[str, Any]]:
    return [image for image in images.of_project(aws) if image["Name"] == name]


def _begin(aws: Aws, instance: str, name: str, tags: list[dict[str, str]]) -> None:
    tagging = [{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")]
    with saying(f"make an image of {instance}"), unless({ALREADY}):
        aws.ec2.create_image(InstanceId=instance, Name=name, NoReboot=True, TagSpecifications=tagging)


def _finished(aws: Aws, name: str) -> str:
    began = told = time.monotonic()
    while (now := time.monotonic()) - began < PATIENCE:
        found = _named(aws, name)
        image: dict[str, Any] = found[0] if found else {"State": "pending"}  # EC2 may not know yet what it has begun
        if image["State"] == "available":
            return str(image["ImageId"])
        if image["State"] != "pending":
            message = image.get("StateReason", {}).get("Message", "no reason is given")
            raise UserError(f"AWS made no image, it is {image['State']}: {message}")
        if now - told >= TOLD_EVERY:
            told = now
            log.info("The image %s has been in the making for %.0f min", name, (now - began) / 60)
        time.sleep(LOOKS_EVERY)
    raise UserError(f"AWS took more than {PATIENCE // 60} minutes to make the image {name}")


def _remove(aws: Aws, old: list[str]) -> list[str]:
    """Deregister images; delete their snapshots, and those that a killed process has left of others."""
    removed = []
    for image in old:
        with saying(f"deregister the image {image}"), unless(GONE):
            aws.ec2.deregister_image(ImageId=image)
            removed.append(image)
    with saying("list the snapshots of baked images"):
        pages = aws.ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=[images.OURS])
        found = [snapshot for page in pages for snapshot in page["Snapshots"]]
    # Asked after the snapshots, so that none is younger than the list of images
    names = {image["Name"] for image in images.of_project(aws)}
    for snapshot in found:
        if tagged(snapshot).get("Name") not in names:
            with saying(f"delete the snapshot {snapshot['SnapshotId']}"), unless({*GONE, USED}):
                aws.ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])
                removed.append(snapshot["SnapshotId"])
    return removed
