"""The instance types that a run may use: their hardware as EC2 describes it, their image, and their price."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from continuous_training.compute.ec2 import images, prices
from continuous_training.compute.ec2.aws import Aws, translate_errors
from continuous_training.compute.ec2.images import Image, Platform
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from continuous_training.settings import Compute

log = logging.getLogger(__name__)

ARCHITECTURES = ("x86_64", "arm64")  # for which there are stock images
GPU_MANUFACTURER = "NVIDIA"  # whose drivers the images have


@dataclass(frozen=True)
class Hardware:
    """The processor's architecture, as EC2 names it, and the number of GPUs of an instance type."""

    architecture: str
    gpus: int

    @property
    def platform(self) -> Platform:
        """What an image has to be made for."""
        return Platform(self.architecture, has_gpu=self.gpus > 0)


@dataclass(frozen=True)
class InstanceType:
    """An instance type that a run may use. `price` is in USD an hour."""

    name: str
    hardware: Hardware
    image: Image
    price: float


def prepare_types(aws: Aws, settings: Compute, find_image: Callable[[Platform], Image]) -> dict[str, InstanceType]:
    """Return the types of training.yaml by their names, in order of preference.

    Args:
        aws: the clients.
        settings: the section `compute`.
        find_image: returns the image for a platform.

    Raises:
        UserError: EC2 does not have a type in this region or one that can be used, or there is no image or price.
    """
    hardware = describe_hardware(aws, settings.instance_types)
    platforms = {hardware[name].platform: None for name in settings.instance_types}
    found = {platform: find_image(platform) for platform in platforms}
    for platform, image in found.items():
        names = [name for name in settings.instance_types if hardware[name].platform == platform]
        images.check_architecture(image, platform, names)
        log.info("%s: instances start from %s, %s", ", ".join(names), image.id, image.origin)
    return {
        name: InstanceType(
            name, hardware[name], found[hardware[name].platform], prices.find_hourly_price(aws, name, settings)
        )
        for name in settings.instance_types
    }


def describe_hardware(aws: Aws, names: Sequence[str]) -> dict[str, Hardware]:
    """Return the hardware of instance types, by name.

    Raises:
        UserError: a type does not exist in this region, or has a processor or GPUs without an image.
    """
    filters = [{"Name": "instance-type", "Values": list(names)}]
    with translate_errors("describe the instance types of compute.instance_types"):
        descriptions = aws.ec2.describe_instance_types(Filters=filters)["InstanceTypes"]
    hardware = {str(description["InstanceType"]): _to_hardware(description) for description in descriptions}
    if missing := [name for name in names if name not in hardware]:
        raise UserError(f"compute.instance_types: {aws.region} has no instance type {', '.join(missing)}")
    return hardware


def _to_hardware(description: dict[str, Any]) -> Hardware:
    name = description["InstanceType"]
    supported = description["ProcessorInfo"]["SupportedArchitectures"]
    architecture = next((architecture for architecture in ARCHITECTURES if architecture in supported), None)
    if architecture is None:
        raise UserError(
            f"compute.instance_types: {name} is for {', '.join(supported)}, not {' or '.join(ARCHITECTURES)}"
        )
    gpus = description.get("GpuInfo", {}).get("Gpus", [])
    if others := ", ".join({gpu["Manufacturer"] for gpu in gpus} - {GPU_MANUFACTURER}):
        raise UserError(
            f"compute.instance_types: {name} has GPUs of {others}, and the images drivers of {GPU_MANUFACTURER}"
        )
    return Hardware(architecture, sum(gpu["Count"] for gpu in gpus))
