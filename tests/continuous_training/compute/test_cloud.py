"""The test cloud behaves as AWS where training on EC2 depends on it."""

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

PUT = r"""
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

SESSION = boto3.session.Session()  # reads the models of the services once


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **given} for given in statements]})


ALL = policy({"Action": "*", "Resource": "*"})


@pytest.fixture(scope="module")
def cloud() -> Iterator[Aws]:
    with Aws() as aws:
        aws.permit(user=ALL, role=ALL)
        yield aws


@pytest.fixture
def aws(cloud: Aws) -> Iterator[Aws]:
    cloud.faults.calls.clear()
    cloud.authorization.denied.clear()
    yield cloud
    cloud.faults.clear()
    cloud.permit(user=ALL, role=ALL)
    if alive := cloud.alive():
        cloud.client("ec2").terminate_instances(InstanceIds=alive)


@pytest.fixture
def machines(aws: Aws, tmp_path: Path) -> Iterator[Machines]:
    with Machines(aws, tmp_path / "machines", ROOT / ".venv", minute=0.5) as machines:
        yield machines


def client(aws: Aws, service: str, attempts: int = 1, **given: Any) -> Any:
    """Return a client as the launching process has it."""
    return SESSION.client(
        service,
        endpoint_url=aws.url,
        region_name="eu-central-1",
        config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}),
        **{
            "aws_access_key_id": aws.environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": aws.environment["AWS_SECRET_ACCESS_KEY"],
            **given,
        },
    )


def launch(aws: Aws, script: str = "", **given: Any) -> str:
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
        **given,
    }
    return str(client(aws, "ec2").run_instances(**request)["Instances"][0]["InstanceId"])


def described(aws: Aws, instance: str) -> dict[str, Any]:
    return dict(aws.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0])


def until(what: Callable[[], Any]) -> Any:
    patience = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < patience, "it never happened"
        time.sleep(0.02)
    return found


def message(aws: Aws, machines: Machines, instance: str, words: str) -> str:
    """Wait until a machine has printed these words; return all that it has printed."""
    until(lambda: instance in aws.consoles and words in machines.console(instance))
    return machines.console(instance)


def refusal(ask: Callable[..., Any], **given: Any) -> str:
    with pytest.raises(ClientError) as caught:
        ask(**given)
    return str(caught.value.response["Error"]["Code"])


def test_user_data_reaches_s3_with_the_roles_credentials_through_curl(aws: Aws, machines: Machines) -> None:
    aws.client("s3").put_object(Bucket=aws.bucket, Key="given/to it=yes", Body=b"words")
    script = f"""{PUT}
s3 --fail -o got "$s3/given/to%20it%3Dyes"
s3 --fail -T got "$s3/said/by/$(meta instance-id)"
echo uploaded"""
    instance = launch(aws, script)
    message(aws, machines, instance, "uploaded")
    assert aws.client("s3").get_object(Bucket=aws.bucket, Key=f"said/by/{instance}")["Body"].read() == b"words"
    assert [call.caller for call in aws.faults.made("s3", "PutObject")] == [instance]
    assert aws.gate.denied == []


def test_a_shutdown_ends_the_instance_and_all_it_started(aws: Aws, machines: Machines) -> None:
    instance = launch(aws, "shutdown -P +1\nsetsid sleep 600 &\nexec sleep 600")
    until(lambda: described(aws, instance)["State"]["Name"] == "terminated")
    assert described(aws, instance)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert machines.running() == {}
    assert aws.leftovers() == []


def test_a_later_shutdown_replaces_the_earlier_and_leaves_time_for_last_words(aws: Aws, machines: Machines) -> None:
    script = "trap 'echo last words; exit' TERM\nshutdown -P +9000\nsleep 600 & shutdown -P now; wait; wait"
    instance = launch(aws, script)
    until(lambda: described(aws, instance)["State"]["Name"] == "terminated")
    output = client(aws, "ec2").get_console_output(InstanceId=instance)["Output"]
    assert "last words" in output
    assert "last words" in machines.console(instance)


@pytest.mark.usefixtures("machines")
def test_whoever_does_not_ask_for_termination_gets_a_stopped_instance(aws: Aws) -> None:
    instance = launch(aws, "poweroff -f", InstanceInitiatedShutdownBehavior="stop")
    until(lambda: described(aws, instance)["State"]["Name"] == "stopped")
    assert aws.alive() == [instance]


def test_terminating_an_instance_kills_its_processes(aws: Aws, machines: Machines) -> None:
    instance = launch(aws, "trap '' TERM\nsleep 600 & wait")
    until(lambda: instance in machines.running())
    client(aws, "ec2").terminate_instances(InstanceIds=[instance])
    until(lambda: not machines.running())
    assert described(aws, instance)["StateReason"]["Code"] == "Client.UserInitiatedShutdown"


def test_a_spot_instance_learns_of_its_interruption_from_its_metadata(aws: Aws, machines: Machines) -> None:
    script = f"{PUT}\nwhile ! meta spot/instance-action; do sleep 0.1; done 2>/dev/null\nsleep 600"
    instance = launch(aws, script, InstanceMarketOptions={"MarketType": "spot"})
    until(lambda: instance in machines.running())
    machines.interrupt(instance, notice=1)
    until(lambda: described(aws, instance)["State"]["Name"] == "terminated")
    assert described(aws, instance)["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert '"action": "terminate"' in machines.console(instance)


def test_a_machine_inherits_nothing_of_what_its_launcher_knows(
    aws: Aws, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_URI", "CT_BUCKET"):
        monkeypatch.setenv(name, "of the launcher")
    instance = launch(aws, "env; echo end of env")
    text = message(aws, machines, instance, "end of env")
    assert "of the launcher" not in text
    found = set(re.findall(r"^((?:AWS|MLFLOW|CT)_\w+)=", text, re.MULTILINE))
    assert found == {"AWS_EC2_METADATA_SERVICE_ENDPOINT", "CT_ROOT"}


def test_version_1_of_the_metadata_service_is_refused(aws: Aws, machines: Machines) -> None:
    instance = launch(aws, "curl -sS -o /dev/null -w 'status %{http_code}' $imds/latest/meta-data/instance-id")
    assert message(aws, machines, instance, "status 401") == "status 401"


def test_an_instance_that_does_not_boot_runs_nothing(aws: Aws, machines: Machines) -> None:
    machines.boots = False
    instance = launch(aws, "echo booted; sleep 600")
    until(lambda: instance in aws.consoles)
    other = launch(aws)
    until(lambda: other in aws.consoles)
    assert machines.running() == {}
    assert machines.console(instance) == ""


def test_the_same_token_gives_the_same_instance(aws: Aws) -> None:
    first = launch(aws, ClientToken="one")
    assert launch(aws, ClientToken="one") == first
    assert launch(aws, ClientToken="another") != first
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        launch(aws, ClientToken="one", InstanceType="c7i.xlarge")


@pytest.mark.parametrize(
    ("service", "method", "operation", "given"),
    [
        ("ec2", "describe_instances", "DescribeInstances", {}),
        ("s3", "list_objects_v2", "ListObjectsV2", {"Bucket": "continuous-training"}),
        ("ssm", "get_parameters", "GetParameters", {"Names": ["one"]}),
        ("sts", "get_caller_identity", "GetCallerIdentity", {}),
    ],
)
def test_a_refused_call_is_answered_in_its_services_own_words(
    aws: Aws, service: str, method: str, operation: str, given: dict[str, Any]
) -> None:
    aws.faults.refuse(service, operation, "NotToday", times=1)
    ask = getattr(client(aws, service), method)
    assert refusal(ask, **given) == "NotToday"
    assert ask(**given)["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize(
    ("service", "method", "given", "code"),
    [
        ("ec2", "describe_instances", {}, "RequestLimitExceeded"),
        ("s3", "list_objects_v2", {"Bucket": "continuous-training"}, "SlowDown"),
        ("ssm", "get_parameters", {"Names": ["one"]}, "ThrottlingException"),
    ],
)
def test_a_throttled_call_is_answered_so_that_boto3_tries_again(
    aws: Aws, service: str, method: str, given: dict[str, Any], code: str
) -> None:
    aws.faults.throttle(times=1)
    assert refusal(getattr(client(aws, service), method), **given) == code
    aws.faults.throttle(times=1)
    getattr(client(aws, service, attempts=2), method)(**given)


def test_only_calls_with_such_parameters_are_refused(aws: Aws) -> None:
    aws.faults.refuse(
        "ec2", "RunInstances", "InsufficientInstanceCapacity", 500, only=lambda p: p["InstanceType"] == "c7i.large"
    )
    with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
        launch(aws)
    assert launch(aws, InstanceType="c7i.xlarge") in aws.alive()


@pytest.mark.parametrize(
    ("service", "method", "given", "code"),
    [
        ("ec2", "describe_instances", {}, "AuthFailure"),
        ("s3", "list_objects_v2", {"Bucket": "continuous-training"}, "SignatureDoesNotMatch"),
        ("ssm", "get_parameters", {"Names": ["one"]}, "InvalidSignatureException"),
    ],
)
def test_a_wrong_secret_is_refused(aws: Aws, service: str, method: str, given: dict[str, Any], code: str) -> None:
    ask = getattr(client(aws, service, aws_secret_access_key="of somebody else"), method)
    assert refusal(ask, **given) == code


def test_what_no_policy_allows_is_denied(aws: Aws) -> None:
    launched = launch(aws)
    mine = {"Condition": {"StringEquals": {"ec2:ResourceTag/mine": "yes"}}, "Resource": "arn:aws:ec2:*:*:instance/*"}
    user = policy(
        {"Action": "ec2:TerminateInstances", **mine},
        {"Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{aws.bucket}/mine/*"},
    )
    aws.permit(user=user, role=ALL)
    ec2, s3 = client(aws, "ec2"), client(aws, "s3")
    assert refusal(ec2.terminate_instances, InstanceIds=[launched]) == "UnauthorizedOperation"
    aws.client("ec2").create_tags(Resources=[launched], Tags=[{"Key": "mine", "Value": "yes"}])
    ec2.terminate_instances(InstanceIds=[launched])
    aws.client("s3").put_object(Bucket=aws.bucket, Key="mine/a", Body=b"a")
    aws.client("s3").put_object(Bucket=aws.bucket, Key="b", Body=b"b")
    assert s3.get_object(Bucket=aws.bucket, Key="mine/a")["Body"].read() == b"a"
    assert refusal(s3.get_object, Bucket=aws.bucket, Key="b") == "AccessDenied"
    assert refusal(s3.get_object, Bucket=aws.bucket, Key="mine/absent") == "AccessDenied"
    with pytest.raises(ClientError, match="ec2:RunInstances on resource"):
        launch(aws)


def test_a_file_of_many_parts_arrives_whole(aws: Aws, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(range(256)) * 40_000)
    client(aws, "s3").upload_file(str(tmp_path / "large"), aws.bucket, "large")
    assert aws.faults.made("s3", "CompleteMultipartUpload")
    client(aws, "s3").download_file(aws.bucket, "large", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()
    assert aws.leftovers() == []


def test_aws_tells_its_own_time(aws: Aws) -> None:
    instance = launch(aws)
    launched = described(aws, instance)["LaunchTime"]
    aws.faults.skew(10)
    ec2 = client(aws, "ec2")
    found = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]["LaunchTime"]
    assert round((found - launched).total_seconds()) == 600
    aws.faults.skew(20)
    assert refusal(ec2.describe_instances) == "RequestExpired"


def test_prices_are_those_of_the_table(aws: Aws) -> None:
    wanted = [{"Type": "TERM_MATCH", "Field": "instanceType", "Value": "c7i.large"}]
    found = client(aws, "pricing").get_products(ServiceCode="AmazonEC2", Filters=wanted)["PriceList"]
    assert re.findall(r'"USD": "([\d.]+)"', "".join(found)) == [f"{aws.prices['c7i.large']:.10f}"]
