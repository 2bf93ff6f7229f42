"""Creating images of instances, and deleting old images with their snapshots."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from continuous_training.compute.ec2 import images
from continuous_training.compute.ec2.aws import ignore_errors, translate_errors
from continuous_training.compute.ec2.tags import (
    COMMIT_TAG,
    GPU_TAG,
    LOCK_TAG,
    PROJECT,
    PROJECT_FILTER,
    PROJECT_TAG,
    read_tags,
    to_tag_list,
)
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from continuous_training.compute.ec2.aws import Aws
    from continuous_training.compute.ec2.images import Platform

log = logging.getLogger(__name__)

POLL_SECONDS = 5
LOG_SECONDS = 60  # between two progress lines
CREATION_TIMEOUT_SECONDS = 45 * 60  # EC2 copies the whole disk, mostly within ten minutes
ALREADY_DELETED = {"InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidSnapshot.NotFound"}
IN_USE = "InvalidSnapshot.InUse"
ALREADY_CREATED = "InvalidAMIName.Duplicate"  # the call was repeated because its response was lost


def create_image(aws: Aws, instance_id: str, platform: Platform, lock: str, commit: str) -> str:
    """Create an image of an instance, which goes on running; return the image's id once it is available.

    The instance is not rebooted, because a reboot would cancel its scheduled shutdown.

    Raises:
        UserError: AWS fails or takes too long. An incomplete image is deleted, also on an interrupt.
    """
    name = f"{PROJECT} {instance_id}"  # identifies the image even if the response to the call is lost
    try:
        tags = {"Name": name, PROJECT_TAG: PROJECT, LOCK_TAG: lock, COMMIT_TAG: commit}
        _request_image(aws, instance_id, name, tags | ({GPU_TAG: "nvidia"} if platform.has_gpu else {}))
        return _wait_until_available(aws, name)
    except BaseException:
        try:
            _delete_images(aws, [image["ImageId"] for image in _find_by_name(aws, name)])
        except UserError as error:
            log.error("The incomplete image %s may still exist, do not use it: %s", name, error)  # noqa: TRY400
        raise


def prune_images(aws: Aws, keep: int, protected_id: str | None) -> list[str]:
    """Delete all baked images but the newest of each platform, failed images, and snapshots without an image.

    Args:
        aws: the clients.
        keep: how many images of each platform stay.
        protected_id: the id of an image that stays in any case.

    Returns:
        The ids of deleted images and snapshots.
    """
    failed_images = [
        image for image in images.list_project_images(aws) if image["State"] not in {"available", "pending"}
    ]
    baked: defaultdict[Platform, list[dict[str, Any]]] = defaultdict(list)
    for image in images.list_baked_images(aws):
        baked[images.platform_of(image)].append(image)
    old_images = [image for same_platform in baked.values() for image in same_platform[keep:]]
    obsolete = [image["ImageId"] for image in (*old_images, *failed_images)]
    return _delete_images(aws, [image_id for image_id in obsolete if image_id != protected_id])


def _find_by_name(aws: Aws, name: str) -> list[dict[str, Any]]:
    return [image for image in images.list_project_images(aws) if image["Name"] == name]


def _request_image(aws: Aws, instance_id: str, name: str, tags: dict[str, str]) -> None:
    specifications = [{"ResourceType": kind, "Tags": to_tag_list(tags)} for kind in ("image", "snapshot")]
    with translate_errors(f"create an image of {instance_id}"), ignore_errors({ALREADY_CREATED}):
        aws.ec2.create_image(InstanceId=instance_id, Name=name, NoReboot=True, TagSpecifications=specifications)


def _wait_until_available(aws: Aws, name: str) -> str:
    start = last_log = time.monotonic()
    while (now := time.monotonic()) - start < CREATION_TIMEOUT_SECONDS:
        matches = _find_by_name(aws, name)
        image: dict[str, Any] = matches[0] if matches else {"State": "pending"}  # EC2 is eventually consistent
        if image["State"] == "available":
            return str(image["ImageId"])
        if image["State"] != "pending":
            message = image.get("StateReason", {}).get("Message", "AWS gives no reason")
            raise UserError(f"AWS created no image, its state is {image['State']}: {message}")
        if now - last_log >= LOG_SECONDS:
            last_log = now
            log.info("Waiting for the image %s since %.0f min", name, (now - start) / 60)
        time.sleep(POLL_SECONDS)
    raise UserError(f"AWS took more than {CREATION_TIMEOUT_SECONDS // 60} minutes to create the image {name}")


def _delete_images(aws: Aws, image_ids: list[str]) -> list[str]:
    """Deregister images; delete their snapshots, and those that a killed process left behind."""
    deleted = []
    for image_id in image_ids:
        with translate_errors(f"deregister the image {image_id}"), ignore_errors(ALREADY_DELETED):
            aws.ec2.deregister_image(ImageId=image_id)
            deleted.append(image_id)
    with translate_errors("list the snapshots of baked images"):
        pages = aws.ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=[PROJECT_FILTER])
        snapshots = [snapshot for page in pages for snapshot in page["Snapshots"]]
    # Images are listed after the snapshots, so that no snapshot is newer than this list
    names = {image["Name"] for image in images.list_project_images(aws)}
    for snapshot in snapshots:
        if read_tags(snapshot).get("Name") not in names:
            snapshot_id = snapshot["SnapshotId"]
            with translate_errors(f"delete the snapshot {snapshot_id}"), ignore_errors({*ALREADY_DELETED, IN_USE}):
                aws.ec2.delete_snapshot(SnapshotId=snapshot_id)
                deleted.append(snapshot_id)
    return deleted
