"""The image that a machine starts from: the one asked for, the newest baked one, or a stock Ubuntu; and baked ones."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from continuous_training.compute.ec2.aws import Aws, code, saying, tagged
from continuous_training.compute.ec2.place import PROJECT
from continuous_training.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from continuous_training.compute.ec2.place import Place

log = logging.getLogger(__name__)

LOCK = "ct:lock"  # on an image: hash of the dependency lock whose packages are in it
STOCK = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
OURS = {"Name": "tag:ct:project", "Values": [PROJECT]}

LOOKS_EVERY = 5  # seconds
TOLD_EVERY = 60  # seconds
PATIENCE = 45 * 60  # seconds: EC2 copies the whole disk, mostly within ten minutes
GONE = {"InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidSnapshot.NotFound"}
USED = "InvalidSnapshot.InUse"
ALREADY = "InvalidAMIName.Duplicate"  # the call was made again, because its answer was lost


@dataclass(frozen=True)
class Image:
    """An Amazon Machine Image: the name of its root device, and how large that is at least."""

    id: str
    root_device: str
    gb: int
    made_from: str  # in words


def choose(aws: Aws, place: Place, lock: str) -> Image:
    """Return CT_AMI's image; or the newest baked one, one of this lock before others; or a stock one.

    Raises:
        Problem: it is not there.
    """
    if place.ami:
        return described(aws, place.ami, "as CT_AMI says")
    if found := baked(aws):
        best = max(found, key=lambda image: (tagged(image)[LOCK] == lock, image["CreationDate"]))
        made_from = "baked" if tagged(best)[LOCK] == lock else "baked for other packages"
        return _image(best, made_from)
    return stock(aws)


def baked(aws: Aws) -> list[dict[str, Any]]:
    """Return this project's own images that can be used, the newest first."""
    found = [image for image in _of_project(aws) if image["State"] == "available" and LOCK in tagged(image)]
    return sorted(found, key=lambda image: str(image["CreationDate"]), reverse=True)


def stock(aws: Aws) -> Image:
    """Return the newest stock Ubuntu 24.04, for Intel's and AMD's processors.

    Raises:
        Problem: AWS does not tell.
    """
    with saying("tell the newest stock image (or set CT_AMI)"):
        found = aws.ssm.get_parameter(Name=STOCK)["Parameter"]["Value"]
    return described(aws, found, "stock Ubuntu")


def described(aws: Aws, image: str, made_from: str) -> Image:
    """Return an image by its id.

    Raises:
        Problem: it is not there.
    """
    with saying(f"describe the image {image}"):
        found = aws.ec2.describe_images(ImageIds=[image])["Images"]
    if not found:
        raise Problem(f"the image {image} is not there, {made_from}")
    return _image(found[0], made_from)


def _image(found: dict[str, Any], made_from: str) -> Image:
    root = str(found["RootDeviceName"])
    disks = {disk["DeviceName"]: disk.get("Ebs", {}) for disk in found.get("BlockDeviceMappings", [])}
    return Image(str(found["ImageId"]), root, int(disks.get(root, {}).get("VolumeSize", 0)), made_from)


def create(aws: Aws, instance: str, lock: str, commit: str) -> str:
    """Make an image of an instance, which goes on running; return the image's id once it can be used.

    It is not rebooted for that, as a reboot would forget its dead-man switch.

    Raises:
        Problem: AWS fails, or takes too long; what there was of the image is removed, as it is if this is interrupted.
    """
    name = f"{PROJECT} {instance}"  # by which it is found, however the call ended
    tags = {"Name": name, "ct:project": PROJECT, LOCK: lock, "ct:commit": commit}
    try:
        _begin(aws, instance, name, [{"Key": key, "Value": value} for key, value in tags.items()])
        return _finished(aws, name)
    except BaseException:
        try:
            _remove(aws, [image["ImageId"] for image in _named(aws, name)])
        except Problem as problem:
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
    failed = [image for image in _of_project(aws) if image["State"] not in {"available", "pending"}]
    old = [image["ImageId"] for image in (*baked(aws)[keep:], *failed) if image["ImageId"] != spared]
    return _remove(aws, old)


def _of_project(aws: Aws) -> list[dict[str, Any]]:
    with saying("list the baked images"):
        found: list[dict[str, Any]] = aws.ec2.describe_images(Owners=["self"], Filters=[OURS])["Images"]
    return found


def _named(aws: Aws, name: str) -> list[dict[str, Any]]:
    return [image for image in _of_project(aws) if image["Name"] == name]


def _begin(aws: Aws, instance: str, name: str, tags: list[dict[str, str]]) -> None:
    tagging = [{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")]
    with saying(f"make an image of {instance}"), _unless({ALREADY}):
        aws.ec2.create_image(InstanceId=instance, Name=name, NoReboot=True, TagSpecifications=tagging)


def _finished(aws: Aws, name: str) -> str:
    began = told = time.monotonic()
    while (now := time.monotonic()) - began < PATIENCE:
        found = _named(aws, name)
        image: dict[str, Any] = found[0] if found else {"State": "pending"}  # EC2 may not know yet what it has begun
        if image["State"] == "available":
            return str(image["ImageId"])
        if image["State"] != "pending":
            said = image.get("StateReason", {}).get("Message", "no reason is given")
            raise Problem(f"AWS made no image, it is {image['State']}: {said}")
        if now - told >= TOLD_EVERY:
            told = now
            log.info("The image %s has been in the making for %.0f min", name, (now - began) / 60)
        time.sleep(LOOKS_EVERY)
    raise Problem(f"AWS took more than {PATIENCE // 60} minutes to make the image {name}")


def _remove(aws: Aws, images: list[str]) -> list[str]:
    """Deregister images; delete their snapshots, and those that a killed process has left of others."""
    removed = []
    for image in images:
        with saying(f"deregister the image {image}"), _unless(GONE):
            aws.ec2.deregister_image(ImageId=image)
            removed.append(image)
    with saying("list the snapshots of baked images"):
        pages = aws.ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=[OURS])
        found = [snapshot for page in pages for snapshot in page["Snapshots"]]
    names = {image["Name"] for image in _of_project(aws)}  # asked after the snapshots, which are younger than theirs
    for snapshot in found:
        if tagged(snapshot).get("Name") not in names:
            with saying(f"delete the snapshot {snapshot['SnapshotId']}"), _unless({*GONE, USED}):
                aws.ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])
                removed.append(snapshot["SnapshotId"])
    return removed


@contextmanager
def _unless(codes: set[str]) -> Iterator[None]:
    """Let an error of these codes pass."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if code(error) not in codes:
            raise
