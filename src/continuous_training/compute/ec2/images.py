"""The image that an instance starts from: CT_AMI, the newest baked image, or a stock one, for GPUs with drivers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from continuous_training.compute.ec2.aws import Aws, translate_errors
from continuous_training.compute.ec2.tags import GPU_TAG, LOCK_TAG, PROJECT_FILTER, read_tags
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.compute.ec2.account import Account


@dataclass(frozen=True)
class Platform:
    """What an image is made for: a processor's architecture, as EC2 names it, with or without a GPU."""

    architecture: str
    has_gpu: bool = False

    def __str__(self) -> str:
        return f"{self.architecture}{' with a GPU' if self.has_gpu else ''}"


@dataclass(frozen=True)
class Image:
    """An Amazon Machine Image: its architecture, the name of its root device, and that device's minimum size.

    `origin` describes where it comes from, such as 'stock Ubuntu'.
    """

    id: str
    architecture: str
    root_device: str
    root_gb: int
    origin: str


# Public parameters of SSM with the newest image. The drivers come with AWS' deep learning base image on Ubuntu 24.04:
# https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html
UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current"
DEEP_LEARNING = "/aws/service/deeplearning/ami"
STOCK_PARAMETERS = {
    Platform("x86_64"): f"{UBUNTU}/amd64/hvm/ebs-gp3/ami-id",
    Platform("arm64"): f"{UBUNTU}/arm64/hvm/ebs-gp3/ami-id",
    **{
        Platform(name, has_gpu=True): f"{DEEP_LEARNING}/{name}/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
        for name in ("x86_64", "arm64")
    },
}


def choose_image(aws: Aws, account: Account, lock: str, platform: Platform) -> Image:
    """Return the image of CT_AMI; else the newest baked image, preferably one of this lock; else a stock image.

    Raises:
        UserError: the image does not exist.
    """
    if account.ami:
        return describe_image(aws, account.ami, "set by CT_AMI")
    if images := list_baked_images(aws, platform):
        best = max(images, key=lambda image: (read_tags(image)[LOCK_TAG] == lock, image["CreationDate"]))
        origin = "baked" if read_tags(best)[LOCK_TAG] == lock else "baked with other packages"
        return _to_image(best, origin)
    return find_stock_image(aws, platform)


def list_baked_images(aws: Aws, platform: Platform | None = None) -> list[dict[str, Any]]:
    """Return EC2's descriptions of this project's available images, newest first: all, or those for a platform."""
    images = [
        image
        for image in list_project_images(aws)
        if image["State"] == "available" and LOCK_TAG in read_tags(image) and platform in {None, platform_of(image)}
    ]
    return sorted(images, key=lambda image: str(image["CreationDate"]), reverse=True)


def platform_of(image: dict[str, Any]) -> Platform:
    """Return the platform of a baked image, from EC2's description."""
    return Platform(str(image["Architecture"]), has_gpu=GPU_TAG in read_tags(image))


def find_stock_image(aws: Aws, platform: Platform) -> Image:
    """Return the newest stock image of Ubuntu 24.04, for GPUs that with NVIDIA's drivers.

    Raises:
        UserError: AWS does not name it.
    """
    with translate_errors(f"find the newest stock image for {platform} (or set CT_AMI)"):
        image_id = aws.ssm.get_parameter(Name=STOCK_PARAMETERS[platform])["Parameter"]["Value"]
    return describe_image(aws, image_id, "AWS' image for deep learning" if platform.has_gpu else "stock Ubuntu")


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


def check_architecture(image: Image, platform: Platform, types: Sequence[str]) -> None:
    """Check that an image runs on instance types.

    Raises:
        UserError: it is made for another architecture than theirs.
    """
    if image.architecture != platform.architecture:
        raise UserError(
            f"the image {image.id}, {image.origin}, is for {image.architecture}, and {', '.join(types)} for "
            f"{platform.architecture}: change compute.instance_types or the image"
        )


def list_project_images(aws: Aws) -> list[dict[str, Any]]:
    """Return EC2's descriptions of this project's images, in every state."""
    with translate_errors("list the baked images"):
        images: list[dict[str, Any]] = aws.ec2.describe_images(Owners=["self"], Filters=[PROJECT_FILTER])["Images"]
    return images


def _to_image(description: dict[str, Any], origin: str) -> Image:
    root = str(description["RootDeviceName"])
    disks = {disk["DeviceName"]: disk.get("Ebs", {}) for disk in description.get("BlockDeviceMappings", [])}
    size = int(disks.get(root, {}).get("VolumeSize", 0))
    return Image(str(description["ImageId"]), str(description["Architecture"]), root, size, origin)
