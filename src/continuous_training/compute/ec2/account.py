"""Where on AWS a run trains: what the environment says, as the YAML says what a data scientist decides."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Self

from continuous_training.documents import Value
from continuous_training.errors import UserError

PROJECT = "continuous-training"  # the tag on all that this project makes; jenkins/iam-policy.json is limited to it

DEADLINE = "ct:deadline"  # on an instance: when it ends itself, by AWS's clock
OF_RUN = "ct:run"  # on an instance and its volume: `identity`

NEEDED = {
    "CT_BUCKET": "the S3 bucket for code, rows, logs and results",
    "CT_SUBNETS": "the subnets to launch in, separated by commas",
    "CT_SECURITY_GROUP": "a security group without inbound rules",
    "CT_INSTANCE_PROFILE": "the name of the instance profile",
}


class Place(Value):
    """The parts of an AWS account that training may use. Credentials and region are found as boto3 finds them."""

    bucket: str
    subnets: tuple[str, ...]
    security_group: str
    instance_profile: str
    ami: str | None
    mlflow_username: str | None
    mlflow_secret_parameter: str | None

    @classmethod
    def find(cls) -> Self:
        """Read it from the environment.

        Raises:
            UserError: a variable is missing.
        """
        missing = [f"{name} ({what})" for name, what in NEEDED.items() if not os.environ.get(name, "").strip()]
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


def tracking_uri() -> str:
    """Return the address of a tracking server that an instance can reach.

    Raises:
        UserError: MLFLOW_TRACKING_URI is no such address, or has a password in it, which user data would show.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith(("http://", "https://")):
        raise UserError(
            "COMPUTE=ec2 needs a tracking server that an instance can reach: set MLFLOW_TRACKING_URI to its address"
        )
    if "@" in uri:
        raise UserError(
            "MLFLOW_TRACKING_URI has a password in it, which an instance's user data would show: put it into SSM's "
            "Parameter Store, its name into CT_MLFLOW_SECRET_PARAMETER, and the user into MLFLOW_TRACKING_USERNAME"
        )
    return uri


def identity(build_tag: str, build_url: str) -> str:
    """Return the name of a run that no other has, for its instances' tag: build tags are alike on two controllers."""
    if build_url.startswith(("http://", "https://")):
        return build_url[:256]
    return f"{socket.gethostname()}:{Path.cwd()} {build_tag}"[-256:]
