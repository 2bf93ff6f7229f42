"""An AWS account with the resources for training on EC2, behind an endpoint on this machine."""

from __future__ import annotations

import functools
import json
import threading
from pathlib import Path
from string import Template
from typing import Any, Self

import boto3
from botocore.loaders import JSONFileLoader
from moto import settings
from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.ec2.models import ec2_backends

from cloud.authorization import TEST_KEY, Authorizer
from cloud.clock import Clock
from cloud.faults import Faults
from cloud.moto_extensions import MotoExtensions
from cloud.required_permissions import ACCOUNT, REGION
from cloud.server import Moto, Server

BUCKET = "continuous-training"
ROLE = "continuous-training"  # of the instances, and the name of its profile
USER = "jenkins"

UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
DEEP_LEARNING = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
STOCK_IMAGES = {  # the names of SSM's parameters, with the architecture of each image
    UBUNTU: "x86_64",
    UBUNTU.replace("amd64", "arm64"): "arm64",
    DEEP_LEARNING: "x86_64",
    DEEP_LEARNING.replace("x86_64", "arm64"): "arm64",
}

POLICIES = Path(__file__).parents[3] / "jenkins"
USER_POLICY, ROLE_POLICY = POLICIES / "iam-policy.json", POLICIES / "iam-policy-instance.json"

settings.ENABLE_AMI_VALIDATION = True
settings.EC2_ENABLE_INSTANCE_TYPE_VALIDATION = True
settings.ec2_load_default_amis = lambda: False  # a thousand public images in each account

load_model = functools.cache(JSONFileLoader().load_file)
JSONFileLoader.load_file = lambda _, path: load_model(path)  # parsed once for all sessions


class Aws:
    """The account: `environment` has the variables for the launching process, `client` is for the test itself.

    Signatures are always verified. If jenkins/iam-policy.json and iam-policy-instance.json exist, they are the
    permissions of the launching process and of the instances, with ${CT_BUCKET}, ${CT_ROLE}, ${AWS_ACCOUNT} and
    ${AWS_REGION} replaced. moto's state is global to the process, so there can be only one account at a time.
    """

    def __init__(self) -> None:
        self.account, self.region = ACCOUNT, REGION
        self.bucket = BUCKET
        self._extensions = MotoExtensions(Moto())
        self._clock = Clock()
        self.faults = Faults(self._extensions, self._clock)
        self.authorizer = Authorizer(self.faults, self._extensions, self._clock.now)
        self._server = Server(self._clock.wrap(self.authorizer))
        self._session = boto3.session.Session()
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The URL of all services."""
        return self._server.url

    @property
    def prices(self) -> dict[str, float]:
        """The prices of instance types in USD per hour on demand; a test can change them."""
        return self._extensions.prices

    @property
    def stock_amis(self) -> dict[str, str]:
        """The ids of stock images, by the names of SSM's parameters."""
        return self._extensions.stock_amis

    @property
    def consoles(self) -> dict[str, Path]:
        """The files with the machines' output, which GetConsoleOutput returns."""
        return self._extensions.consoles

    @property
    def ec2(self) -> Any:
        """moto's model of EC2, for events without an API: a spot interruption, or a shutdown by the instance."""
        return ec2_backends[ACCOUNT][REGION]

    def __enter__(self) -> Self:
        BackendDict.reset()
        reset_model_data()
        self._server.__enter__()
        try:
            self._create_resources()
        except BaseException:
            self._server.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__()

    def client(self, service: str) -> Any:
        """Return a client of the test, with all permissions and without faults."""
        with self._lock:  # boto3's sessions are not thread-safe
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service,
                    endpoint_url=self.url,
                    region_name=REGION,
                    aws_access_key_id=TEST_KEY,
                    aws_secret_access_key="unused",
                )
            return self._clients[service]

    def billable_instances(self) -> list[str]:
        """Return the ids of all instances that cost money: at the end of a test, there must be none."""
        reservations = self.client("ec2").describe_instances()["Reservations"]
        instances = [instance for reservation in reservations for instance in reservation["Instances"]]
        return [
            instance["InstanceId"]
            for instance in instances
            if instance["State"]["Name"] not in ("terminated", "shutting-down")
        ]

    def billable_resources(self) -> list[str]:
        """Return all that costs money: instances, detached volumes, and incomplete uploads."""
        volumes = self.client("ec2").describe_volumes(Filters=[{"Name": "status", "Values": ["available"]}])["Volumes"]
        uploads = self.client("s3").list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        incomplete = [f"s3://{BUCKET}/{upload['Key']}" for upload in uploads]
        return [*self.billable_instances(), *(volume["VolumeId"] for volume in volumes), *incomplete]

    def _create_resources(self) -> None:
        ec2, iam = self.client("ec2"), self.client("iam")
        self.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")["Subnet"]
            for n, zone in enumerate("ab")
        ]
        group = ec2.create_security_group(GroupName="training", Description="No inbound rule", VpcId=vpc)["GroupId"]
        for name, architecture in STOCK_IMAGES.items():
            image = ec2.register_image(Name=name, RootDeviceName="/dev/sda1")["ImageId"]
            self.ec2.amis[image].architecture = architecture  # which moto's RegisterImage does not set
            self.stock_amis[name] = image
        trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=document)
        iam.create_instance_profile(InstanceProfileName=ROLE)
        iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)
        iam.create_user(UserName=USER)
        key = iam.create_access_key(UserName=USER)["AccessKey"]
        if USER_POLICY.exists() and ROLE_POLICY.exists():
            self.set_policies(user=_read_policy(USER_POLICY), role=_read_policy(ROLE_POLICY))
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "CT_BUCKET": BUCKET,
            "CT_SUBNETS": ",".join(subnet["SubnetId"] for subnet in subnets),
            "CT_SECURITY_GROUP": group,
            "CT_INSTANCE_PROFILE": ROLE,
            "CT_AMI": self.stock_amis[UBUNTU],
        }

    def set_policies(self, *, user: str, role: str) -> None:
        """Set the permissions of the launching process and of the instances."""
        iam = self.client("iam")
        iam.put_user_policy(UserName=USER, PolicyName="training", PolicyDocument=user)
        iam.put_role_policy(RoleName=ROLE, PolicyName="training", PolicyDocument=role)
        self.authorizer.enforced = True


def _read_policy(path: Path) -> str:
    variables = {"CT_BUCKET": BUCKET, "CT_ROLE": ROLE, "AWS_ACCOUNT": ACCOUNT, "AWS_REGION": REGION}
    return Template(path.read_text()).safe_substitute(variables)  # not IAM's ${aws:…}
