"""The IAM policies allow what the code calls and nothing else, and on EC2 only what bears the project's tag."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.model import ServiceModel

from cloud.iam_policies import Permission, allowed
from conftest import ROOT
from continuous_training.compute.ec2 import images, user_data
from continuous_training.compute.ec2.aws import Aws
from continuous_training.compute.ec2.tags import PROJECT

CODE = sorted((ROOT / "src" / "continuous_training").rglob("*.py"))
SERVICES = {
    name for name, value in vars(Aws).items() if isinstance(value, functools.cached_property) and name[0] != "_"
}

OTHERWISE = {  # actions that are not called like the operation
    "s3:HeadBucket": {"s3:ListBucket"},
    "s3:HeadObject": {"s3:GetObject"},
    "s3:ListObjectsV2": {"s3:ListBucket"},
    "s3:ListMultipartUploads": {"s3:ListBucketMultipartUploads"},
    "s3:upload_file": {"s3:PutObject", "s3:AbortMultipartUpload"},  # boto3's own: in parts, and away with them
}
IMPLIED = {"TagSpecifications": "ec2:CreateTags", "IamInstanceProfile": "iam:PassRole"}  # by an argument
USED = {"image", "snapshot", "network-interface", "security-group", "spot-instances-request", "subnet"}  # by a launch

PLACE = {"CT_BUCKET": "a-bucket", "CT_ROLE": "a-role", "AWS_ACCOUNT": "111122223333"}
OF_JENKINS, OF_INSTANCE = (ROOT / "jenkins" / name for name in ("iam-policy.json", "iam-policy-instance.json"))


def read(path: Path) -> dict[str, Any]:
    policy: dict[str, Any] = json.loads(Template(path.read_text()).substitute(PLACE))
    return policy


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def granted(policy: dict[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in many(statement["Action"])}


def clients(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Find `aws.ec2` and the like, whoever has `aws`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in SERVICES:
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if owner.strip("_") == "aws":
                yield node


def calls(tree: ast.AST) -> Iterator[tuple[str, str, ast.Call]]:
    """Find `aws.ec2.describe_instances(…)`: service, method and call."""
    known = {id(client): client.attr for client in clients(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and id(node.func.value) in known:
            yield known[id(node.func.value)], node.func.attr, node


@functools.cache
def model_of(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


def actions(service: str, method: str, call: ast.Call) -> set[str]:
    model = model_of(service)
    operations = {xform_name(name): name for name in model.operation_names}
    if method in {"get_paginator", "get_waiter"}:
        assert isinstance(call.args[0], ast.Constant)
        method = str(call.args[0].value)
        if call.func.attr == "get_waiter":  # type: ignore[attr-defined]
            waiters = botocore.session.get_session().get_waiter_model(service)
            method = xform_name(waiters.get_waiter("".join(map(str.title, method.split("_")))).operation)
    action = f"{model.signing_name}:{operations.get(method, method)}"
    return OTHERWISE.get(action, {action})


def needed() -> dict[str, str]:
    """Return each action that the code takes, and where it does."""
    found = {}
    for path in CODE:
        text = path.read_text()
        for service, method, call in calls(ast.parse(text)):
            where = f"{path.relative_to(ROOT)}:{call.lineno}"
            found |= dict.fromkeys(actions(service, method, call), where)
        if "aws.ec2." in text:
            found |= {action: f"{path.relative_to(ROOT)}" for word, action in IMPLIED.items() if f'"{word}"' in text}
    return found


def needed_on_an_instance() -> set[str]:
    script = user_data.TEMPLATE.read_text()
    found = {f"ssm:{operation}" for operation in re.findall(r"X-Amz-Target: AmazonSSM\.(\w+)", script)}
    for line in re.findall(r"^ *aws s3 .*$", script, re.MULTILINE):
        method = re.search(r"-X (\w+)", line)
        found.add({"GET": "s3:GetObject", "PUT": "s3:PutObject"}[method[1] if method else "GET"])
    if 'get "$checkpoint"' in script:  # S3 tells that something is not there only to those who may list
        found.add("s3:ListBucket")
    return found


class TestJenkins:
    policy = read(OF_JENKINS)

    def may(self, action: str, resource: str, **context: str) -> bool:
        named = {name.replace("__", "/ct:").replace("_", ":", 1): [value] for name, value in context.items()}
        return allowed([self.policy], Permission(action, resource, named))

    def test_it_may_do_what_the_code_does(self) -> None:
        missing = {action: where for action, where in needed().items() if action not in granted(self.policy)}
        assert not missing, f"{OF_JENKINS.name} does not grant {missing}"

    def test_it_may_do_nothing_that_the_code_does_not(self) -> None:
        too_much = granted(self.policy) - needed().keys()
        assert not too_much, f"{OF_JENKINS.name} grants {too_much}, which no code calls"

    def test_every_call_is_written_out_so_that_it_is_found_here(self) -> None:
        for path in CODE:
            tree = ast.parse(path.read_text())
            parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
            called = {id(call.func.value) for _, _, call in calls(tree)}  # type: ignore[attr-defined]
            for client in clients(tree):
                used = parents[id(client)]
                of_itself = isinstance(used, ast.Attribute) and used.attr == "meta"
                assert id(client) in called or of_itself, f"{path.name}:{client.lineno} hides a call from this test"

    def test_what_changes_something_on_ec2_asks_for_the_tag(self) -> None:
        for statement in self.policy["Statement"]:
            changing = {action for action in many(statement["Action"]) if re.match(r"ec2:(?!Describe)", action)}
            kinds = {resource.rpartition(":")[2].partition("/")[0] for resource in many(statement["Resource"])}
            if not changing or (changing == {"ec2:RunInstances"} and kinds <= USED):
                continue
            asked = statement.get("Condition", {}).get("StringEquals", {})
            assert {"aws:RequestTag/ct:project", "aws:ResourceTag/ct:project"} & asked.keys(), statement["Sid"]
            assert PROJECT in asked.values()

    @pytest.mark.parametrize(
        ("action", "resource"),
        [
            ("ec2:TerminateInstances", "arn:aws:ec2:eu-west-1:111122223333:instance/i-1"),
            ("ec2:GetConsoleOutput", "arn:aws:ec2:eu-west-1:111122223333:instance/i-1"),
            ("ec2:CreateImage", "arn:aws:ec2:eu-west-1:111122223333:instance/i-1"),
            ("ec2:DeleteVolume", "arn:aws:ec2:eu-west-1:111122223333:volume/vol-1"),
            ("ec2:DeregisterImage", "arn:aws:ec2:eu-west-1::image/ami-1"),
            ("ec2:DeleteSnapshot", "arn:aws:ec2:eu-west-1::snapshot/snap-1"),
        ],
    )
    def test_what_belongs_to_others_is_out_of_reach(self, action: str, resource: str) -> None:
        assert self.may(action, resource, aws_ResourceTag__project=PROJECT)
        assert not self.may(action, resource, aws_ResourceTag__project="another")
        assert not self.may(action, resource)

    @pytest.mark.parametrize("kind", ["instance", "volume"])
    def test_nothing_is_launched_without_the_tag_by_which_it_is_found_again(self, kind: str) -> None:
        resource = f"arn:aws:ec2:eu-west-1:111122223333:{kind}/*"
        assert self.may("ec2:RunInstances", resource, aws_RequestTag__project=PROJECT)
        assert not self.may("ec2:RunInstances", resource)

    def test_nothing_that_is_there_already_gets_the_tag(self) -> None:
        resource = "arn:aws:ec2:eu-west-1:111122223333:instance/i-1"
        tagged = {"aws_RequestTag__project": PROJECT}
        assert self.may("ec2:CreateTags", resource, **tagged, ec2_CreateAction="RunInstances")
        assert not self.may("ec2:CreateTags", resource, **tagged)

    def test_only_the_role_of_the_instances_is_passed_and_only_to_ec2(self) -> None:
        role = "arn:aws:iam::111122223333:role/a-role"
        assert self.may("iam:PassRole", role, iam_PassedToService="ec2.amazonaws.com")
        assert not self.may("iam:PassRole", role, iam_PassedToService="lambda.amazonaws.com")
        assert not self.may("iam:PassRole", f"{role}-of-an-administrator", iam_PassedToService="ec2.amazonaws.com")

    def test_it_reads_the_parameter_that_names_the_stock_image_and_no_secret(self) -> None:
        assert self.may("ssm:GetParameter", f"arn:aws:ssm:eu-west-1::parameter{images.STOCK_PARAMETER}")
        assert not self.may(
            "ssm:GetParameter", "arn:aws:ssm:eu-west-1:111122223333:parameter/continuous-training/token"
        )


class TestInstance:
    policy = read(OF_INSTANCE)

    def may(self, action: str, resource: str) -> bool:
        return allowed([self.policy], Permission(action, resource))

    def test_it_may_do_what_its_user_data_does_and_nothing_else(self) -> None:
        assert granted(self.policy) == needed_on_an_instance()

    def test_it_changes_nothing_but_what_runs_leave(self) -> None:
        assert self.may("s3:PutObject", "arn:aws:s3:::a-bucket/runs/1/1/result")
        assert not self.may("s3:PutObject", "arn:aws:s3:::a-bucket/objects/1")
        assert not self.may("s3:PutObject", "arn:aws:s3:::another/runs/1/1/result")

    @pytest.mark.parametrize("key", ["objects/1", "runs/1/checkpoint"])
    def test_it_reads_code_rows_and_checkpoints(self, key: str) -> None:
        assert self.may("s3:GetObject", f"arn:aws:s3:::a-bucket/{key}")
        assert not self.may("s3:GetObject", f"arn:aws:s3:::another/{key}")

    def test_it_reads_the_secrets_of_this_project_only(self) -> None:
        parameter = "arn:aws:ssm:eu-west-1:111122223333:parameter"
        assert self.may("ssm:GetParameter", f"{parameter}/continuous-training/mlflow-token")
        assert not self.may("ssm:GetParameter", f"{parameter}/payroll/password")


@pytest.mark.parametrize("path", [OF_JENKINS, OF_INSTANCE], ids=lambda path: path.stem)
class TestBoth:
    def test_no_action_has_a_wildcard(self, path: Path) -> None:
        assert not [action for action in granted(read(path)) if "*" in action]

    def test_each_statement_allows_and_is_named_once(self, path: Path) -> None:
        policy = read(path)
        assert policy["Version"] == "2012-10-17"
        assert {statement["Effect"] for statement in policy["Statement"]} == {"Allow"}
        names = [statement["Sid"] for statement in policy["Statement"]]
        assert len(set(names)) == len(names)
        assert all(name.isalnum() for name in names)

    def test_it_is_shorter_than_iam_takes(self, path: Path) -> None:
        assert len("".join(json.dumps(read(path)).split())) <= 6144
