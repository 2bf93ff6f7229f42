"""The image that a machine starts from: the one asked for, the newest baked one, or a stock Ubuntu."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from continuous_training.compute.ec2.account import PROJECT
from continuous_training.compute.ec2.aws import Aws, saying, tagged
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from continuous_training.compute.ec2.account import Place

LOCK = "ct:lock"  # on an image: hash of the dependency lock whose packages are in it
STOCK = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
OURS = {"Name": "tag:ct:project", "Values": [PROJECT]}


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
        UserError: it is not there.
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
    found = [image for image in of_project(aws) if image["State"] == "available" and LOCK in tagged(image)]
    return sorted(found, key=lambda image: str(image["CreationDate"]), reverse=True)


def stock(aws: Aws) -> Image:
    """Return the newest stock Ubuntu 24.04, for Intel's and AMD's processors.

    Raises:
        UserError: AWS does not tell.
    """
    with saying("tell the newest stock image (or set CT_AMI)"):
        found = aws.ssm.get_parameter(Name=STOCK)["Parameter"]["Value"]
    return described(aws, found, "stock Ubuntu")


def described(aws: Aws, image: str, made_from: str) -> Image:
    """Return an image by its id.

    Raises:
        UserError: it is not there.
    """
    with saying(f"describe the image {image}"):
        found = aws.ec2.describe_images(ImageIds=[image])["Images"]
    if not found:
        raise UserError(f"the image {image} is not there, {made_from}")
    return _image(found[0], made_from)


def _image(found: dict[str, Any], made_from: str) -> Image:
    root = str(found["RootDeviceName"])
    disks = {disk["DeviceName"]: disk.get("Ebs", {}) for disk in found.get("BlockDeviceMappings", [])}
    return Image(str(found["ImageId"]), root, int(disks.get(root, {}).get("VolumeSize", 0)), made_from)


def of_project(aws: Aws) -> list[dict[str, Any]]:
    """Return all images of this project's, in whatever state."""
    with saying("list the baked images"):
        found: list[dict[str, Any]] = aws.ec2.describe_images(Owners=["self"], Filters=[OURS])["Images"]
    return found
