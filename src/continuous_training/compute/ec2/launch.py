"""Launching an instance without inbound access. Where one type, zone or market has no capacity, the next is tried."""

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
from continuous_training.compute.ec2.aws import Aws, error_code, translate_errors
from continuous_training.compute.ec2.signals import defer_signals
from continuous_training.compute.ec2.tags import (
    DEADLINE_TAG,
    PROJECT,
    PROJECT_TAG,
    RUN_TAG,
    run_identifier,
    to_tag_list,
)
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from continuous_training.compute.ec2.account import Account
    from continuous_training.compute.ec2.instance_types import InstanceType
    from continuous_training.compute.ec2.user_data import Task
    from continuous_training.documents import Run
    from continuous_training.settings import Compute

log = logging.getLogger(__name__)

Market = Literal["spot", "on demand"]

BURSTABLE = re.compile(r"t\d")
CAPACITY_ERRORS = {  # another type, zone or market may have capacity
    *("InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientCapacity", "UnfulfillableCapacity"),
    *("InstanceLimitExceeded", "VcpuLimitExceeded", "MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow"),
    *("InsufficientFreeAddressesInSubnet", "Unsupported", "InvalidInstanceType"),
}


@dataclass(frozen=True)
class LaunchOption:
    """An instance type, a market and a subnet, which decides the zone."""

    instance_type: str
    market: Market
    subnet: str

    def __str__(self) -> str:
        return f"{self.instance_type} {self.market} in {self.subnet}"


@dataclass(frozen=True)
class Instance:
    """A launched instance. `price` is in USD an hour, `launch_time` by this machine's monotonic clock."""

    id: str
    option: LaunchOption
    price: float
    deadline_minutes: int
    launch_time: float

    @property
    def age_seconds(self) -> float:
        """Seconds since the launch."""
        return time.monotonic() - self.launch_time

    @property
    def cost_usd(self) -> float:
        """An estimate of the cost so far."""
        return self.age_seconds / 3600 * self.price


@dataclass(frozen=True)
class LaunchRequest:
    """The task of one attempt, and the S3 keys that it writes to.

    `deadline_minutes` returns the deadline for a price in USD an hour; it raises UserError if that is too near.
    """

    attempt_key: str
    checkpoint_key: str
    task: Task
    spot: bool
    deadline_minutes: Callable[[float], int]


@dataclass(frozen=True)
class LaunchContext:
    """What all instances of a run have in common. `types` are by name, in order of preference."""

    account: Account
    settings: Compute
    run: Run
    types: dict[str, InstanceType]


def list_launch_options(context: LaunchContext, *, spot: bool) -> Iterator[LaunchOption]:
    """Yield all options in order of preference: spot first, then by type, then by subnet."""
    markets: tuple[Market, ...] = ("spot", "on demand") if spot else ("on demand",)
    for market, instance_type, subnet in itertools.product(markets, context.types, context.account.subnets):
        yield LaunchOption(instance_type, market, subnet)


def check_security_group(aws: Aws, security_group: str) -> None:
    """Check that the security group has no inbound rules.

    Raises:
        UserError: it has one, or does not exist.
    """
    with translate_errors(f"describe the security group {security_group}"):
        groups = aws.ec2.describe_security_groups(GroupIds=[security_group])["SecurityGroups"]
    if any(group["IpPermissions"] for group in groups):
        raise UserError(f"the security group {security_group} has inbound rules: training needs none, remove them")


def launch_instance(aws: Aws, context: LaunchContext, request: LaunchRequest, instance_ids: list[str]) -> Instance:
    """Launch an instance by the first option with capacity.

    Its id is appended to `instance_ids` before a signal can interrupt.

    Raises:
        UserError: no option has capacity, the deadline would be too near, or AWS refuses.
    """
    from botocore.exceptions import ClientError

    failures = []
    for option in list_launch_options(context, spot=request.spot):
        price = context.types[option.instance_type].price
        try:
            minutes = request.deadline_minutes(price)
        except UserError as error:  # the next type may be cheaper
            failures.append(f"{option} ({error})")
            continue
        with translate_errors(f"launch {option}"), defer_signals():
            try:
                response = aws.ec2.run_instances(**_run_instances_arguments(aws, context, request, option, minutes))
                instance_ids.append(response["Instances"][0]["InstanceId"])
            except ClientError as error:
                if error_code(error) not in CAPACITY_ERRORS:
                    raise
                log.info("No capacity for %s: %s", option, error_code(error))
                failures.append(f"{option} ({error_code(error)})")
                continue
        instance = Instance(instance_ids[-1], option, price, minutes, time.monotonic())
        log.info("Launched %s, %s; it shuts itself down after at most %d minutes", instance.id, option, minutes)
        return instance
    raise UserError(f"no instance is available: {', '.join(failures)}")


def _run_instances_arguments(
    aws: Aws, context: LaunchContext, request: LaunchRequest, option: LaunchOption, minutes: int
) -> dict[str, Any]:
    """Return the arguments of run_instances.

    The client token is the same for the same attempt and option: a call that is repeated because its response was lost
    returns the same instance.
    """
    account, instance_type = context.account, context.types[option.instance_type]
    image = instance_type.image
    size = max(context.settings.disk_gb, image.root_gb)
    disk = {"VolumeSize": size, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    tags = _tags(context.run, aws.now + timedelta(minutes=minutes))
    arguments: dict[str, Any] = {
        "ImageId": image.id,
        "InstanceType": option.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": hashlib.sha256(f"{request.attempt_key} {option}".encode()).hexdigest(),
        "UserData": user_data.render(request.task, instance_type, request.attempt_key, request.checkpoint_key, minutes),
        "InstanceInitiatedShutdownBehavior": "terminate",
        "IamInstanceProfile": {"Name": account.instance_profile},
        "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": option.subnet, "Groups": [account.security_group]}],
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
        "BlockDeviceMappings": [{"DeviceName": image.root_device, "Ebs": disk}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
    }
    if BURSTABLE.match(option.instance_type):
        arguments["CreditSpecification"] = {"CpuCredits": "standard"}  # unlimited credits cost beyond the price
    if option.market == "spot":
        spot_options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        arguments["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": spot_options}
    return arguments


def _tags(run: Run, deadline: datetime) -> list[dict[str, str]]:
    return to_tag_list(
        {
            "Name": f"{PROJECT} {run.build_tag}",
            PROJECT_TAG: PROJECT,
            RUN_TAG: run_identifier(run.build_tag, run.build_url),
            "ct:build": run.build_url,
            "ct:model": run.model,
            DEADLINE_TAG: deadline.isoformat(timespec="seconds"),
        }
    )
