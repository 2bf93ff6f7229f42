"""The IAM policies allow the calls of the code and nothing else, on EC2 only for resources with the project's tag."""

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

from cloud.iam_policies import Permission, is_allowed
from conftest import ROOT
from continuous_training.compute.ec2 import images, user_data
from continuous_training.compute.ec2.aws import Aws
from continuous_training.compute.ec2.tags import PROJECT

CODE = sorted((ROOT / "src" / "continuous_training").rglob("*.py"))
SERVICES = {
    name for name, value in vars(Aws).items() if isinstance(value, functools.cached_property) and name[0] != "_"
}

ACTIONS = {  # whose names differ from the operation's
    "s3:HeadBucket": {"s3:ListBucket"},
    "s3:HeadObject": {"s3:GetObject"},
    "s3:ListObjectsV2": {"s3:ListBucket"},
    "s3:ListMultipartUploads": {"s3:ListBucketMultipartUploads"},
    "s3:upload_file": {"s3:PutObject", "s3:AbortMultipartUpload"},  # boto3's, in parts that it removes after an error
}
IMPLIED_ACTIONS = {"TagSpecifications": "ec2:CreateTags", "IamInstanceProfile": "iam:PassRole"}  # by arguments
LAUNCH_RESOURCES = {
    "image",
    "snapshot",
    "network-interface",
    "security-group",
    "spot-instances-request",
    "subnet",
}  # that a launch uses

VARIABLES = {"CT_BUCKET": "a-bucket", "CT_ROLE": "a-role", "AWS_ACCOUNT": "111122223333"}
JENKINS_POLICY, INSTANCE_POLICY = (ROOT / "jenkins" / name for name in ("iam-policy.json", "iam-policy-instance.json"))


def read(path: Path) -> dict[str, Any]:
    policy: dict[str, Any] = json.loads(Template(path.read_text()).substitute(VARIABLES))
    return policy


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def granted_actions(policy: dict[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in as_list(statement["Action"])}


def find_clients(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Find `aws.ec2` and other services, as attributes of any `aws`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in SERVICES:
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if owner.strip("_") == "aws":
                yield node


def find_calls(tree: ast.AST) -> Iterator[tuple[str, str, ast.Call]]:
    """Find calls like `aws.ec2.describe_instances(…)`: service, method and call."""
    known = {id(client): client.attr for client in find_clients(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and id(node.func.value) in known:
            yield known[id(node.func.value)], node.func.attr, node


@functools.cache
def service_model(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


def required_actions(service: str, method: str, call: ast.Call) -> set[str]:
    model = service_model(service)
    operations = {xform_name(name): name for name in model.operation_names}
    if method in {"get_paginator", "get_waiter"}:
        assert isinstance(call.args[0], ast.Constant)
        method = str(call.args[0].value)
        if call.func.attr == "get_waiter":  # type: ignore[attr-defined]
            waiters = botocore.session.get_session().get_waiter_model(service)
            method = xform_name(waiters.get_waiter("".join(map(str.title, method.split("_")))).operation)
    action = f"{model.signing_name}:{operations.get(method, method)}"
    return ACTIONS.get(action, {action})


def actions_of_code() -> dict[str, str]:
    """Return the actions that the code calls, with the place of a call."""
    actions = {}
    for path in CODE:
        text = path.read_text()
        for service, method, call in find_calls(ast.parse(text)):
            where = f"{path.relative_to(ROOT)}:{call.lineno}"
            actions |= dict.fromkeys(required_actions(service, method, call), where)
        if "aws.ec2." in text:
            actions |= {
                action: f"{path.relative_to(ROOT)}" for word, action in IMPLIED_ACTIONS.items() if f'"{word}"' in text
            }
    return actions


def actions_of_user_data() -> set[str]:
    script = user_data.TEMPLATE.read_text()
    actions = {f"ssm:{operation}" for operation in re.findall(r"X-Amz-Target: AmazonSSM\.(\w+)", script)}
    for line in re.findall(r"^ *aws s3 .*$", script, re.MULTILINE):
        method = re.search(r"-X (\w+)", line)
        actions.add({"GET": "s3:GetObject", "PUT": "s3:PutObject"}[method[1] if method else "GET"])
    if 'get "$checkpoint"' in script:  # without it, S3 reports missing objects as access denied
        actions.add("s3:ListBucket")
    return actions


class TestJenkins:
    policy = read(JENKINS_POLICY)

    def allows(self, action: str, resource: str, **context: str) -> bool:
        keys = {name.replace("__", "/ct:").replace("_", ":", 1): [value] for name, value in context.items()}
        return is_allowed([self.policy], Permission(action, resource, keys))

    def test_all_calls_of_the_code_are_allowed(self) -> None:
        missing = {
            action: where for action, where in actions_of_code().items() if action not in granted_actions(self.policy)
        }
        assert not missing, f"{JENKINS_POLICY.name} does not grant {missing}"

    def test_no_other_calls_are_allowed(self) -> None:
        excess = granted_actions(self.policy) - actions_of_code().keys()
        assert not excess, f"{JENKINS_POLICY.name} grants {excess}, which the code does not call"

    def test_all_calls_are_written_so_that_these_tests_find_them(self) -> None:
        for path in CODE:
            tree = ast.parse(path.read_text())
            parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
            called = {id(call.func.value) for _, _, call in find_calls(tree)}  # type: ignore[attr-defined]
            for client in find_clients(tree):
                parent = parents[id(client)]
                is_metadata = isinstance(parent, ast.Attribute) and parent.attr == "meta"
                assert id(client) in called or is_metadata, (
                    f"{path.name}:{client.lineno} has a call that these tests do not find"
                )

    def test_actions_that_change_ec2_require_the_tag(self) -> None:
        for statement in self.policy["Statement"]:
            changing = {action for action in as_list(statement["Action"]) if re.match(r"ec2:(?!Describe)", action)}
            kinds = {resource.rpartition(":")[2].partition("/")[0] for resource in as_list(statement["Resource"])}
            if not changing or (changing == {"ec2:RunInstances"} and kinds <= LAUNCH_RESOURCES):
                continue
            condition = statement.get("Condition", {}).get("StringEquals", {})
            assert {"aws:RequestTag/ct:project", "aws:ResourceTag/ct:project"} & condition.keys(), statement["Sid"]
            assert PROJECT in condition.values()

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
    def test_resources_without_the_tag_cannot_be_changed(self, action: str, resource: str) -> None:
        assert self.allows(action, resource, aws_ResourceTag__project=PROJECT)
        assert not self.allows(action, resource, aws_ResourceTag__project="another")
        assert not self.allows(action, resource)

    @pytest.mark.parametrize("kind", ["instance", "volume"])
    def test_nothing_can_be_launched_without_the_tag(self, kind: str) -> None:
        resource = f"arn:aws:ec2:eu-west-1:111122223333:{kind}/*"
        assert self.allows("ec2:RunInstances", resource, aws_RequestTag__project=PROJECT)
        assert not self.allows("ec2:RunInstances", resource)

    def test_existing_resources_cannot_be_tagged(self) -> None:
        resource = "arn:aws:ec2:eu-west-1:111122223333:instance/i-1"
        tag = {"aws_RequestTag__project": PROJECT}
        assert self.allows("ec2:CreateTags", resource, **tag, ec2_CreateAction="RunInstances")
        assert not self.allows("ec2:CreateTags", resource, **tag)

    def test_only_the_role_of_the_instances_can_be_passed_and_only_to_ec2(self) -> None:
        role = "arn:aws:iam::111122223333:role/a-role"
        assert self.allows("iam:PassRole", role, iam_PassedToService="ec2.amazonaws.com")
        assert not self.allows("iam:PassRole", role, iam_PassedToService="lambda.amazonaws.com")
        assert not self.allows("iam:PassRole", f"{role}-administrator", iam_PassedToService="ec2.amazonaws.com")

    def test_jenkins_reads_the_parameters_of_the_stock_images_and_no_secret(self) -> None:
        for name in images.STOCK_PARAMETERS.values():
            assert self.allows("ssm:GetParameter", f"arn:aws:ssm:eu-west-1::parameter{name}")
        assert not self.allows(
            "ssm:GetParameter", "arn:aws:ssm:eu-west-1:111122223333:parameter/continuous-training/token"
        )


class TestInstance:
    policy = read(INSTANCE_POLICY)

    def allows(self, action: str, resource: str) -> bool:
        return is_allowed([self.policy], Permission(action, resource))

    def test_the_calls_of_the_user_data_are_allowed_and_no_others(self) -> None:
        assert granted_actions(self.policy) == actions_of_user_data()

    def test_instances_write_only_the_objects_of_runs(self) -> None:
        assert self.allows("s3:PutObject", "arn:aws:s3:::a-bucket/runs/1/1/result")
        assert not self.allows("s3:PutObject", "arn:aws:s3:::a-bucket/objects/1")
        assert not self.allows("s3:PutObject", "arn:aws:s3:::another/runs/1/1/result")

    @pytest.mark.parametrize("key", ["objects/1", "runs/1/checkpoint"])
    def test_instances_read_code_rows_and_checkpoints(self, key: str) -> None:
        assert self.allows("s3:GetObject", f"arn:aws:s3:::a-bucket/{key}")
        assert not self.allows("s3:GetObject", f"arn:aws:s3:::another/{key}")

    def test_instances_read_the_secrets_of_this_project_only(self) -> None:
        parameter = "arn:aws:ssm:eu-west-1:111122223333:parameter"
        assert self.allows("ssm:GetParameter", f"{parameter}/continuous-training/mlflow-token")
        assert not self.allows("ssm:GetParameter", f"{parameter}/payroll/password")


@pytest.mark.parametrize("path", [JENKINS_POLICY, INSTANCE_POLICY], ids=lambda path: path.stem)
class TestBothPolicies:
    def test_no_action_has_a_wildcard(self, path: Path) -> None:
        assert not [action for action in granted_actions(read(path)) if "*" in action]

    def test_each_statement_allows_and_has_a_unique_name(self, path: Path) -> None:
        policy = read(path)
        assert policy["Version"] == "2012-10-17"
        assert {statement["Effect"] for statement in policy["Statement"]} == {"Allow"}
        names = [statement["Sid"] for statement in policy["Statement"]]
        assert len(set(names)) == len(names)
        assert all(name.isalnum() for name in names)

    def test_the_policy_is_within_the_size_limit_of_iam(self, path: Path) -> None:
        assert len("".join(json.dumps(read(path)).split())) <= 6144
