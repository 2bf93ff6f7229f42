"""The image that an instance starts from: CT_AMI, the newest baked image, or a stock Ubuntu."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from continuous_training.compute.ec2.aws import Aws, translate_errors
from continuous_training.compute.ec2.tags import LOCK_TAG, PROJECT_FILTER, read_tags
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from continuous_training.compute.ec2.account import Account

STOCK_PARAMETER = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"


@dataclass(frozen=True)
class Image:
    """An Amazon Machine Image: the name of its root device, and that device's minimum size.

    `origin` describes where it comes from, such as 'stock Ubuntu'.
    """

    id: str
    root_device: str
    root_gb: int
    origin: str


def choose_image(aws: Aws, account: Account, lock: str) -> Image:
    """Return the image of CT_AMI; else the newest baked image, preferably one of this lock; else a stock image.

    Raises:
        UserError: the image does not exist.
    """
    if account.ami:
        return describe_image(aws, account.ami, "set by CT_AMI")
    if images := list_baked_images(aws):
        best = max(images, key=lambda image: (read_tags(image)[LOCK_TAG] == lock, image["CreationDate"]))
        origin = "baked" if read_tags(best)[LOCK_TAG] == lock else "baked with other packages"
        return _to_image(best, origin)
    return find_stock_image(aws)


def list_baked_images(aws: Aws) -> list[dict[str, Any]]:
    """Return EC2's descriptions of this project's available images, newest first."""
    images = [
        image for image in list_project_images(aws) if image["State"] == "available" and LOCK_TAG in read_tags(image)
    ]
    return sorted(images, key=lambda image: str(image["CreationDate"]), reverse=True)


def find_stock_image(aws: Aws) -> Image:
    """Return the newest stock Ubuntu 24.04 for x86-64.

    Raises:
        UserError: AWS does not name it.
    """
    with translate_errors("find the newest stock image (or set CT_AMI)"):
        image_id = aws.ssm.get_parameter(Name=STOCK_PARAMETER)["Parameter"]["Value"]
    return describe_image(aws, image_id, "stock Ubuntu")


def describe_image(aws: Aws, image_id: str, origin: str) -> Image:
    """Return an image by its id.

    Raises:
        UserError: it does not exist.
    """
    with translate_errors(f"describe the image {image_id}"):
        images = aws.ec2.describe_images(ImageIds=[image_id])["Images"]
    if not images:
        raise UserError(f"the image {image_id}, {origin}, does not exist")
    return _to_image(images[0], origin)


def list_project_images(aws: Aws) -> list[dict[str, Any]]:
    """Return EC2's descriptions of this project's images, in every state."""
    with translate_errors("list the baked images"):
        images: list[dict[str, Any]] = aws.ec2.describe_images(Owners=["self"], Filters=[PROJECT_FILTER])["Images"]
    return images


def _to_image(description: dict[str, Any], origin: str) -> Image:
    root = str(description["RootDeviceName"])
    disks = {disk["DeviceName"]: disk.get("Ebs", {}) for disk in description.get("BlockDeviceMappings", [])}
    return Image(str(description["ImageId"]), root, int(disks.get(root, {}).get("VolumeSize", 0)), origin)
