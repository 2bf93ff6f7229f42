"""An AWS account with what training on EC2 needs, behind an endpoint of this machine."""

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

from cloud.authorization import TEST, Gate
from cloud.clock import Clock
from cloud.faults import Faults
from cloud.moto_extensions import Amendments
from cloud.required_permissions import ACCOUNT, REGION
from cloud.server import Moto, Server

BUCKET = "continuous-training"
ROLE = "continuous-training"  # of the instances, and the name of its profile
USER = "jenkins"

POLICIES = Path(__file__).parents[3] / "jenkins"
OF_USER, OF_ROLE = POLICIES / "iam-policy.json", POLICIES / "iam-policy-instance.json"

settings.ENABLE_AMI_VALIDATION = True
settings.EC2_ENABLE_INSTANCE_TYPE_VALIDATION = True
settings.ec2_load_default_amis = lambda: False  # a thousand public images, for every account anew

load_model = functools.cache(JSONFileLoader().load_file)
JSONFileLoader.load_file = lambda _, path: load_model(path)  # each session would parse the models of its services


class Aws:
    """The account: `environment` is what the launching process needs to use it, `client` is for the test itself.

    Signatures are always verified. If jenkins/iam-policy.json and iam-policy-instance.json are there, they say all that
    the launching process and the machines may do; ${CT_BUCKET}, ${CT_ROLE}, ${AWS_ACCOUNT} and ${AWS_REGION} are
    replaced in them. moto's state belongs to the whole process, so there can be only one of these at a time.
    """

    def __init__(self) -> None:
        self.account, self.region = ACCOUNT, REGION
        self.bucket = BUCKET
        self._amendments = Amendments(Moto())
        self._clock = Clock()
        self.faults = Faults(self._amendments, self._clock)
        self.gate = Gate(self.faults, self._amendments, self._clock.now)
        self._server = Server(self._clock.shifting(self.gate))
        self._session = boto3.session.Session()
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()

    @property
    def url(self) -> str:
        """The address of every service."""
        return self._server.url

    @property
    def prices(self) -> dict[str, float]:
        """What instance types cost, in USD an hour on demand; a test may change it."""
        return self._amendments.prices

    @property
    def consoles(self) -> dict[str, Path]:
        """Where the machines print: what GetConsoleOutput answers with."""
        return self._amendments.consoles

    @property
    def ec2(self) -> Any:
        """moto's own model of EC2, for what no API can do: a spot interruption, or a shutdown from inside."""
        return ec2_backends[ACCOUNT][REGION]

    def __enter__(self) -> Self:
        BackendDict.reset()
        reset_model_data()
        self._server.__enter__()
        try:
            self._furnish()
        except BaseException:
            self._server.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__()

    def client(self, service: str) -> Any:
        """Return a client that may do anything, without faults, for a test to look at the cloud."""
        with self._making:  # boto3's sessions are not for two threads
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service,
                    endpoint_url=self.url,
                    region_name=REGION,
                    aws_access_key_id=TEST,
                    aws_secret_access_key="known to nobody",
                )
            return self._clients[service]

    def alive(self) -> list[str]:
        """Return the ids of all instances that may still cost money: at the end of a test, these are forgotten ones."""
        found = self.client("ec2").describe_instances()["Reservations"]
        instances = [instance for reservation in found for instance in reservation["Instances"]]
        return [one["InstanceId"] for one in instances if one["State"]["Name"] not in ("terminated", "shutting-down")]

    def leftovers(self) -> list[str]:
        """Return all that may still cost money: instances, volumes of no instance, and unfinished uploads."""
        volumes = self.client("ec2").describe_volumes(Filters=[{"Name": "status", "Values": ["available"]}])["Volumes"]
        uploads = self.client("s3").list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        unfinished = [f"s3://{BUCKET}/{upload['Key']}" for upload in uploads]
        return [*self.alive(), *(volume["VolumeId"] for volume in volumes), *unfinished]

    def _furnish(self) -> None:
        ec2, iam = self.client("ec2"), self.client("iam")
        self.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")["Subnet"]
            for n, zone in enumerate("ab")
        ]
        group = ec2.create_security_group(GroupName="training", Description="No inbound rule", VpcId=vpc)["GroupId"]
        image = ec2.register_image(Name="stock Ubuntu", RootDeviceName="/dev/sda1")["ImageId"]
        self._amendments.stock_ami = image
        trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=document)
        iam.create_instance_profile(InstanceProfileName=ROLE)
        iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)
        iam.create_user(UserName=USER)
        key = iam.create_access_key(UserName=USER)["AccessKey"]
        if OF_USER.exists() and OF_ROLE.exists():
            self.permit(user=_policy(OF_USER), role=_policy(OF_ROLE))
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
            "CT_AMI": image,
        }

    def permit(self, *, user: str, role: str) -> None:
        """Let the launching process and the machines do what these policies allow, and nothing else from now on."""
        iam = self.client("iam")
        iam.put_user_policy(UserName=USER, PolicyName="training", PolicyDocument=user)
        iam.put_role_policy(RoleName=ROLE, PolicyName="training", PolicyDocument=role)
        self.gate.enforced = True


def _policy(path: Path) -> str:
    given = {"CT_BUCKET": BUCKET, "CT_ROLE": ROLE, "AWS_ACCOUNT": ACCOUNT, "AWS_REGION": REGION}
    return Template(path.read_text()).safe_substitute(given)  # IAM's own ${aws:…} stay as they are
