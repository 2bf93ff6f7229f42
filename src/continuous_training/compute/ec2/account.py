"""The AWS resources that training uses, as the environment configures them."""

from __future__ import annotations

import os
from typing import Self

from continuous_training.documents import Value
from continuous_training.errors import UserError

REQUIRED_VARIABLES = {
    "CT_BUCKET": "the S3 bucket for code, rows, logs and results",
    "CT_SUBNETS": "the subnets to launch in, separated by commas",
    "CT_SECURITY_GROUP": "a security group without inbound rules",
    "CT_INSTANCE_PROFILE": "the name of the instance profile",
}


class Account(Value):
    """The resources of an AWS account that training may use. boto3 finds credentials and region by its own rules."""

    bucket: str
    subnets: tuple[str, ...]
    security_group: str
    instance_profile: str
    ami: str | None
    mlflow_username: str | None
    mlflow_secret_parameter: str | None

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment variables.

        Raises:
            UserError: a required variable is not set; the message lists all of them.
        """
        missing = [
            f"{name} ({meaning})"
            for name, meaning in REQUIRED_VARIABLES.items()
            if not os.environ.get(name, "").strip()
        ]
        if missing:
            raise UserError(f"COMPUTE=ec2 needs {', '.join(missing)} in the environment")
        return cls(
            bucket=os.environ["CT_BUCKET"].strip(),
            subnets=tuple(filter(None, (subnet.strip() for subnet in os.environ["CT_SUBNETS"].split(",")))),
            security_group=os.environ["CT_SECURITY_GROUP"].strip(),
            instance_profile=os.environ["CT_INSTANCE_PROFILE"].strip(),
            ami=os.environ.get("CT_AMI") or None,
            mlflow_username=os.environ.get("MLFLOW_TRACKING_USERNAME") or None,
            mlflow_secret_parameter=os.environ.get("CT_MLFLOW_SECRET_PARAMETER") or None,
        )


def read_tracking_uri() -> str:
    """Return the address of a tracking server that instances can reach: MLFLOW_TRACKING_URI.

    Raises:
        UserError: it is no http address, or contains a password, which an instance's user data would expose.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith(("http://", "https://")):
        raise UserError(
            "COMPUTE=ec2 needs a tracking server that an instance can reach: set MLFLOW_TRACKING_URI to its address"
        )
    if "@" in uri:
        raise UserError(
            "MLFLOW_TRACKING_URI contains a password, which an instance's user data would expose: store it in SSM's "
            "Parameter Store, its name in CT_MLFLOW_SECRET_PARAMETER, and the user in MLFLOW_TRACKING_USERNAME"
        )
    return uri
