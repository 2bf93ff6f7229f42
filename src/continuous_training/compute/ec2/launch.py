"""Launching an instance that nobody can reach or forget; what fails for want of capacity is tried elsewhere."""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from continuous_training.compute.ec2 import user_data
from continuous_training.compute.ec2.account import DEADLINE, OF_RUN, PROJECT, identity
from continuous_training.compute.ec2.aws import Aws, code, saying
from continuous_training.compute.ec2.signals import deferred
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from continuous_training.compute.ec2.account import Place
    from continuous_training.compute.ec2.images import Image
    from continuous_training.compute.ec2.user_data import Task
    from continuous_training.documents import Run
    from continuous_training.settings import Compute

log = logging.getLogger(__name__)

Market = Literal["spot", "on demand"]

BURSTABLE = re.compile(r"t\d")
ELSEWHERE = {  # what another type, zone or market may have
    *("InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientCapacity", "UnfulfillableCapacity"),
    *("InstanceLimitExceeded", "VcpuLimitExceeded", "MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow"),
    *("InsufficientFreeAddressesInSubnet", "Unsupported", "InvalidInstanceType"),
}


@dataclass(frozen=True)
class Offer:
    """One way to get a machine."""

    type: str
    market: Market
    subnet: str

    def __str__(self) -> str:
        return f"{self.type} {self.market} in {self.subnet}"


@dataclass(frozen=True)
class Machine:
    """An instance that was launched; `began` is by this machine's monotonic clock, `price` in USD an hour."""

    id: str
    offer: Offer
    price: float
    minutes: int
    began: float

    @property
    def seconds(self) -> float:
        """How long it has been there."""
        return time.monotonic() - self.began

    @property
    def usd(self) -> float:
        """About what it has cost."""
        return self.seconds / 3600 * self.price


@dataclass(frozen=True)
class Order:
    """What is asked of EC2: the task of one attempt, which keeps its reports at the S3 key `attempt`."""

    attempt: str
    checkpoint: str
    task: Task
    spot: bool
    minutes: Callable[[float], int]


@dataclass(frozen=True)
class Ground:
    """What all instances of a run are launched with; `prices` in USD an hour."""

    place: Place
    given: Compute
    run: Run
    image: Image
    prices: dict[str, float]


def offers(ground: Ground, *, spot: bool) -> Iterator[Offer]:
    """Return all ways to get a machine, the preferred ones first: spot, then the type, then the zone."""
    markets: tuple[Market, ...] = ("spot", "on demand") if spot else ("on demand",)
    for market, kind, subnet in itertools.product(markets, ground.given.instance_types, ground.place.subnets):
        yield Offer(kind, market, subnet)


def closed(aws: Aws, place: Place) -> None:
    """See that nobody can reach an instance.

    Raises:
        UserError: the security group has an inbound rule, or is not there.
    """
    with saying(f"describe the security group {place.security_group}"):
        found = aws.ec2.describe_security_groups(GroupIds=[place.security_group])["SecurityGroups"]
    if any(group["IpPermissions"] for group in found):
        raise UserError(
            f"the security group {place.security_group} has inbound rules: training needs none, remove them"
        )


def launch(aws: Aws, ground: Ground, order: Order, launched: list[str]) -> Machine:
    """Launch an instance, the first that is to be had, and add its id to `launched` before anything can interrupt.

    Raises:
        UserError: there is no capacity anywhere, the deadline would be too near, or AWS refuses.
    """
    from botocore.exceptions import ClientError

    refused = []
    for offer in offers(ground, spot=order.spot):
        price = ground.prices[offer.type]
        try:
            minutes = order.minutes(price)
        except UserError as problem:  # the next type may be cheaper
            refused.append(f"{offer} ({problem})")
            continue
        with saying(f"launch {offer}"), deferred():
            try:
                found = aws.ec2.run_instances(**_request(aws, ground, order, offer, minutes))
                launched.append(found["Instances"][0]["InstanceId"])
            except ClientError as error:
                if code(error) not in ELSEWHERE:
                    raise
                log.info("No %s: %s", offer, code(error))
                refused.append(f"{offer} ({code(error)})")
                continue
        machine = Machine(launched[-1], offer, price, minutes, time.monotonic())
        log.info("Launched %s, %s; it ends itself after %d minutes at the latest", machine.id, offer, minutes)
        return machine
    raise UserError(f"there is no instance to be had: {', '.join(refused)}")


def _request(aws: Aws, ground: Ground, order: Order, offer: Offer, minutes: int) -> dict[str, Any]:
    """Return the arguments of run_instances.

    The token is the same for the same attempt and offer: a call that is repeated because its answer was lost gives the
    same instance.
    """
    size = max(ground.given.disk_gb, ground.image.gb)
    disk = {"VolumeSize": size, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    tags = _tags(ground.run, aws.now + timedelta(minutes=minutes))
    request: dict[str, Any] = {
        "ImageId": ground.image.id,
        "InstanceType": offer.type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": hashlib.sha256(f"{order.attempt} {offer}".encode()).hexdigest(),
        "UserData": user_data.render(order.task, order.attempt, order.checkpoint, minutes),
        "InstanceInitiatedShutdownBehavior": "terminate",
        "IamInstanceProfile": {"Name": ground.place.instance_profile},
        "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": offer.subnet, "Groups": [ground.place.security_group]}],
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
        "BlockDeviceMappings": [{"DeviceName": ground.image.root_device, "Ebs": disk}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
    }
    if BURSTABLE.match(offer.type):
        request["CreditSpecification"] = {"CpuCredits": "standard"}  # unlimited ones cost beyond the price
    if offer.market == "spot":
        once = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        request["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": once}
    return request


def _tags(run: Run, deadline: datetime) -> list[dict[str, str]]:
    tags = {
        "Name": f"{PROJECT} {run.build_tag}",
        "ct:project": PROJECT,
        OF_RUN: identity(run.build_tag, run.build_url),
        "ct:build": run.build_url,
        "ct:model": run.model,
        DEADLINE: deadline.isoformat(timespec="seconds"),
    }
    return [{"Key": name, "Value": value[:256]} for name, value in tags.items()]
