"""The test cloud behaves like AWS in what training on EC2 depends on."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cloud.aws import Aws
from cloud.machine import ROOT, Machines

pytestmark = pytest.mark.integration(seconds=5)

S3_FUNCTIONS = r"""
token=$(curl -sS -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$imds/latest/api/token")
meta() { curl -sS --fail -H "X-aws-ec2-metadata-token: $token" "$imds/latest/meta-data/$1"; }
keys=$(meta "iam/security-credentials/$(meta iam/security-credentials/)")
field() { sed -n "s/.*\"$1\" : \"\(.*\)\".*/\1/p" <<<"$keys"; }
s3() {
    printf 'user = "%s:%s"\nheader = "x-amz-security-token: %s"\n' \
        "$(field AccessKeyId)" "$(field SecretAccessKey)" "$(field Token)" |
        curl --config - --aws-sigv4 aws:amz:eu-central-1:s3 -sS -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$@"
}
"""

SESSION = boto3.session.Session()  # parses the models of the services once


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement} for statement in statements]}
    )


ALLOW_ALL = policy({"Action": "*", "Resource": "*"})


@pytest.fixture(scope="module")
def cloud() -> Iterator[Aws]:
    with Aws() as aws:
        aws.set_policies(user=ALLOW_ALL, role=ALLOW_ALL)
        yield aws


@pytest.fixture
def aws(cloud: Aws) -> Iterator[Aws]:
    cloud.faults.calls.clear()
    cloud.authorizer.denied.clear()
    yield cloud
    cloud.faults.clear()
    cloud.set_policies(user=ALLOW_ALL, role=ALLOW_ALL)
    if instances := cloud.billable_instances():
        cloud.client("ec2").terminate_instances(InstanceIds=instances)


@pytest.fixture
def machines(aws: Aws, tmp_path: Path) -> Iterator[Machines]:
    with Machines(aws, tmp_path / "machines", ROOT / ".venv", minute=0.5) as machines:
        yield machines


def client(aws: Aws, service: str, attempts: int = 1, **options: Any) -> Any:
    """Return a client like those of the launching process."""
    return SESSION.client(
        service,
        endpoint_url=aws.url,
        region_name="eu-central-1",
        config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}),
        **{
            "aws_access_key_id": aws.environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": aws.environment["AWS_SECRET_ACCESS_KEY"],
            **options,
        },
    )


def launch(aws: Aws, script: str = "", **parameters: Any) -> str:
    request = {
        "ImageId": aws.environment["CT_AMI"],
        "InstanceType": "c7i.large",
        "MinCount": 1,
        "MaxCount": 1,
        "SubnetId": aws.environment["CT_SUBNETS"].split(",")[0],
        "SecurityGroupIds": [aws.environment["CT_SECURITY_GROUP"]],
        "IamInstanceProfile": {"Name": aws.environment["CT_INSTANCE_PROFILE"]},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "UserData": f"#!/bin/bash\nimds=$AWS_EC2_METADATA_SERVICE_ENDPOINT s3={aws.url}/{aws.bucket}\n{script}",
        **parameters,
    }
    return str(client(aws, "ec2").run_instances(**request)["Instances"][0]["InstanceId"])


def describe(aws: Aws, instance: str) -> dict[str, Any]:
    return dict(aws.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0])


def wait_for(poll: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (value := poll()):
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.02)
    return value


def console(aws: Aws, machines: Machines, instance: str, text: str) -> str:
    """Wait until the output of a machine contains a text; return the whole output."""
    wait_for(lambda: instance in aws.consoles and text in machines.console(instance))
    return machines.console(instance)


def error_code(call: Callable[..., Any], **parameters: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**parameters)
    return str(error.value.response["Error"]["Code"])


def test_user_data_accesses_s3_by_curl_with_the_credentials_of_the_role(aws: Aws, machines: Machines) -> None:
    aws.client("s3").put_object(Bucket=aws.bucket, Key="input/with space=yes", Body=b"text")
    script = f"""{S3_FUNCTIONS}
s3 --fail -o file "$s3/input/with%20space%3Dyes"
s3 --fail -T file "$s3/output/$(meta instance-id)"
echo uploaded"""
    instance = launch(aws, script)
    console(aws, machines, instance, "uploaded")
    assert aws.client("s3").get_object(Bucket=aws.bucket, Key=f"output/{instance}")["Body"].read() == b"text"
    assert [call.caller for call in aws.faults.calls_of("s3", "PutObject")] == [instance]
    assert aws.authorizer.denied == []


def test_a_shutdown_ends_the_instance_and_all_its_processes(aws: Aws, machines: Machines) -> None:
    instance = launch(aws, "shutdown -P +1\nsetsid sleep 600 &\nexec sleep 600")
    wait_for(lambda: describe(aws, instance)["State"]["Name"] == "terminated")
    assert describe(aws, instance)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert machines.running() == {}
    assert aws.billable_resources() == []


def test_a_later_shutdown_replaces_an_earlier_one_and_sends_sigterm_first(aws: Aws, machines: Machines) -> None:
    script = "trap 'echo last output; exit' TERM\nshutdown -P +9000\nsleep 600 & shutdown -P now; wait; wait"
    instance = launch(aws, script)
    wait_for(lambda: describe(aws, instance)["State"]["Name"] == "terminated")
    output = client(aws, "ec2").get_console_output(InstanceId=instance)["Output"]
    assert "last output" in output
    assert "last output" in machines.console(instance)


@pytest.mark.usefixtures("machines")
def test_without_shutdown_behavior_terminate_an_instance_is_stopped(aws: Aws) -> None:
    instance = launch(aws, "poweroff -f", InstanceInitiatedShutdownBehavior="stop")
    wait_for(lambda: describe(aws, instance)["State"]["Name"] == "stopped")
    assert aws.billable_instances() == [instance]


def test_terminating_an_instance_kills_its_processes(aws: Aws, machines: Machines) -> None:
    instance = launch(aws, "trap '' TERM\nsleep 600 & wait")
    wait_for(lambda: instance in machines.running())
    client(aws, "ec2").terminate_instances(InstanceIds=[instance])
    wait_for(lambda: not machines.running())
    assert describe(aws, instance)["StateReason"]["Code"] == "Client.UserInitiatedShutdown"


def test_the_metadata_of_a_spot_instance_announce_its_interruption(aws: Aws, machines: Machines) -> None:
    script = f"{S3_FUNCTIONS}\nwhile ! meta spot/instance-action; do sleep 0.1; done 2>/dev/null\nsleep 600"
    instance = launch(aws, script, InstanceMarketOptions={"MarketType": "spot"})
    wait_for(lambda: instance in machines.running())
    machines.interrupt(instance, notice=1)
    wait_for(lambda: describe(aws, instance)["State"]["Name"] == "terminated")
    assert describe(aws, instance)["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert '"action": "terminate"' in machines.console(instance)


def test_a_machine_does_not_inherit_the_environment_of_the_launching_process(
    aws: Aws, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_URI", "CT_BUCKET"):
        monkeypatch.setenv(name, "of the launching process")
    instance = launch(aws, "env; echo end of env")
    text = console(aws, machines, instance, "end of env")
    assert "of the launching process" not in text
    variables = set(re.findall(r"^((?:AWS|MLFLOW|CT)_\w+)=", text, re.MULTILINE))
    assert variables == {"AWS_EC2_METADATA_SERVICE_ENDPOINT", "CT_ROOT"}


def test_version_1_of_the_metadata_service_is_refused(aws: Aws, machines: Machines) -> None:
    instance = launch(aws, "curl -sS -o /dev/null -w 'status %{http_code}' $imds/latest/meta-data/instance-id")
    assert console(aws, machines, instance, "status 401") == "status 401"


def test_an_instance_that_does_not_boot_runs_no_process(aws: Aws, machines: Machines) -> None:
    machines.boots = False
    instance = launch(aws, "echo booted; sleep 600")
    wait_for(lambda: instance in aws.consoles)
    other = launch(aws)
    wait_for(lambda: other in aws.consoles)
    assert machines.running() == {}
    assert machines.console(instance) == ""


def test_the_same_client_token_returns_the_same_instance(aws: Aws) -> None:
    first = launch(aws, ClientToken="one")
    assert launch(aws, ClientToken="one") == first
    assert launch(aws, ClientToken="another") != first
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        launch(aws, ClientToken="one", InstanceType="c7i.xlarge")


@pytest.mark.parametrize(
    ("service", "method", "operation", "parameters"),
    [
        ("ec2", "describe_instances", "DescribeInstances", {}),
        ("s3", "list_objects_v2", "ListObjectsV2", {"Bucket": "continuous-training"}),
        ("ssm", "get_parameters", "GetParameters", {"Names": ["one"]}),
        ("sts", "get_caller_identity", "GetCallerIdentity", {}),
    ],
)
def test_a_refused_call_gets_an_error_in_the_protocol_of_its_service(
    aws: Aws, service: str, method: str, operation: str, parameters: dict[str, Any]
) -> None:
    aws.faults.refuse(service, operation, "NotToday", times=1)
    call = getattr(client(aws, service), method)
    assert error_code(call, **parameters) == "NotToday"
    assert call(**parameters)["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize(
    ("service", "method", "parameters", "code"),
    [
        ("ec2", "describe_instances", {}, "RequestLimitExceeded"),
        ("s3", "list_objects_v2", {"Bucket": "continuous-training"}, "SlowDown"),
        ("ssm", "get_parameters", {"Names": ["one"]}, "ThrottlingException"),
    ],
)
def test_boto3_retries_a_throttled_call(
    aws: Aws, service: str, method: str, parameters: dict[str, Any], code: str
) -> None:
    aws.faults.throttle(times=1)
    assert error_code(getattr(client(aws, service), method), **parameters) == code
    aws.faults.throttle(times=1)
    getattr(client(aws, service, attempts=2), method)(**parameters)


def test_only_calls_that_meet_the_condition_are_refused(aws: Aws) -> None:
    aws.faults.refuse(
        "ec2", "RunInstances", "InsufficientInstanceCapacity", 500, condition=lambda p: p["InstanceType"] == "c7i.large"
    )
    with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
        launch(aws)
    assert launch(aws, InstanceType="c7i.xlarge") in aws.billable_instances()


@pytest.mark.parametrize(
    ("service", "method", "parameters", "code"),
    [
        ("ec2", "describe_instances", {}, "AuthFailure"),
        ("s3", "list_objects_v2", {"Bucket": "continuous-training"}, "SignatureDoesNotMatch"),
        ("ssm", "get_parameters", {"Names": ["one"]}, "InvalidSignatureException"),
    ],
)
def test_a_wrong_secret_key_is_refused(
    aws: Aws, service: str, method: str, parameters: dict[str, Any], code: str
) -> None:
    call = getattr(client(aws, service, aws_secret_access_key="wrong"), method)
    assert error_code(call, **parameters) == code


def test_calls_that_no_policy_allows_are_denied(aws: Aws) -> None:
    instance = launch(aws)
    tagged = {"Condition": {"StringEquals": {"ec2:ResourceTag/mine": "yes"}}, "Resource": "arn:aws:ec2:*:*:instance/*"}
    user = policy(
        {"Action": "ec2:TerminateInstances", **tagged},
        {"Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{aws.bucket}/mine/*"},
    )
    aws.set_policies(user=user, role=ALLOW_ALL)
    ec2, s3 = client(aws, "ec2"), client(aws, "s3")
    assert error_code(ec2.terminate_instances, InstanceIds=[instance]) == "UnauthorizedOperation"
    aws.client("ec2").create_tags(Resources=[instance], Tags=[{"Key": "mine", "Value": "yes"}])
    ec2.terminate_instances(InstanceIds=[instance])
    aws.client("s3").put_object(Bucket=aws.bucket, Key="mine/a", Body=b"a")
    aws.client("s3").put_object(Bucket=aws.bucket, Key="b", Body=b"b")
    assert s3.get_object(Bucket=aws.bucket, Key="mine/a")["Body"].read() == b"a"
    assert error_code(s3.get_object, Bucket=aws.bucket, Key="b") == "AccessDenied"
    assert error_code(s3.get_object, Bucket=aws.bucket, Key="mine/absent") == "AccessDenied"
    with pytest.raises(ClientError, match="ec2:RunInstances on resource"):
        launch(aws)


def test_a_multipart_upload_is_complete(aws: Aws, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(range(256)) * 40_000)
    client(aws, "s3").upload_file(str(tmp_path / "large"), aws.bucket, "large")
    assert aws.faults.calls_of("s3", "CompleteMultipartUpload")
    client(aws, "s3").download_file(aws.bucket, "large", str(tmp_path / "downloaded"))
    assert (tmp_path / "downloaded").read_bytes() == (tmp_path / "large").read_bytes()
    assert aws.billable_resources() == []


def test_responses_have_the_time_of_awss_clock(aws: Aws) -> None:
    instance = launch(aws)
    launch_time = describe(aws, instance)["LaunchTime"]
    aws.faults.skew(10)
    ec2 = client(aws, "ec2")
    skewed_time = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]["LaunchTime"]
    assert round((skewed_time - launch_time).total_seconds()) == 600
    aws.faults.skew(20)
    assert error_code(ec2.describe_instances) == "RequestExpired"


def test_the_price_list_has_the_configured_prices(aws: Aws) -> None:
    filters = [{"Type": "TERM_MATCH", "Field": "instanceType", "Value": "c7i.large"}]
    products = client(aws, "pricing").get_products(ServiceCode="AmazonEC2", Filters=filters)["PriceList"]
    assert re.findall(r'"USD": "([\d.]+)"', "".join(products)) == [f"{aws.prices['c7i.large']:.10f}"]
