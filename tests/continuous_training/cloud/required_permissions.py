"""The permissions that a call requires, according to AWS's Service Authorization Reference."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

from cloud.call import Call
from cloud.iam_policies import Permission

ACCOUNT = "123456789012"
REGION = "eu-central-1"

S3_ACTIONS = {  # whose names differ from the operation's
    "HeadObject": "GetObject",
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListBuckets": "ListAllMyBuckets",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListParts": "ListMultipartUploadParts",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}
EC2_RESOURCE_TYPES = {
    "i": "instance",
    "ami": "image",
    "eni": "network-interface",
    "sg": "security-group",
    "sir": "spot-instances-request",
    "snap": "snapshot",
    "subnet": "subnet",
    "vol": "volume",
}


def required_permissions(call: Call) -> list[Permission]:
    """Return the permissions that a call requires."""
    action = f"{call.service}:{call.operation}"
    match call.service:
        case "s3":
            return _s3_permissions(call)
        case "ec2" if call.operation == "RunInstances":
            return _run_instances_permissions(call)
        case "ec2" if not call.operation.startswith("Describe"):
            return _ec2_permissions(call)
        case "ssm" if "Name" in call.parameters or "Names" in call.parameters:
            names = call.parameters.get("Names") or [call.parameters["Name"]]
            return [Permission(action, _parameter_arn(name)) for name in names]
        case "sts" if call.operation == "GetCallerIdentity":
            return []
    return [Permission(action)]


def list_permission(call: Call) -> Permission:
    """Return the permission without which S3 reports a missing object as access denied."""
    return Permission("s3:ListBucket", f"arn:aws:s3:::{call.parameters['Bucket']}")


def _s3_permissions(call: Call) -> list[Permission]:
    action = f"s3:{S3_ACTIONS.get(call.operation, call.operation)}"
    context = {"aws:SecureTransport": ["true"]}  # pretended: the loopback interface has no TLS
    if action == "s3:ListBucket" and "prefix" in call.parameters:
        context["s3:prefix"] = [call.parameters["prefix"]]
    if call.operation == "ListBuckets":
        return [Permission(action, "*", context)]
    bucket = f"arn:aws:s3:::{call.parameters['Bucket']}"
    key = call.parameters.get("Key")
    return [Permission(action, f"{bucket}/{key}" if key else bucket, context)]


def _ec2_permissions(call: Call) -> list[Permission]:
    """Return the permissions for the resources in the parameters, with their tags."""
    action, requested = f"ec2:{call.operation}", _requested_tags(call)
    permissions = [
        Permission(action, _arn(value), _existing_tags(value) | _request_context(requested.get("", {})))
        for name, value in call.parameters.items()
        if isinstance(value, str) and value.partition("-")[0] in EC2_RESOURCE_TYPES and re.search(r"Ids?(\.|$)", name)
    ]
    if call.operation == "CreateImage":
        permissions += [
            Permission(action, _arn(kind), _request_context(requested.get(kind, {}))) for kind in ("image", "snapshot")
        ]
    return [*(permissions or [Permission(action)]), *_tag_permissions(call)]


def _run_instances_permissions(call: Call) -> list[Permission]:
    parameters, requested = call.parameters, _requested_tags(call)
    resources = [value for value in parameters.values() if re.fullmatch(r"(ami|subnet|sg)-\w+", value)]
    profile = parameters.get("IamInstanceProfile.Name")
    market = parameters.get("InstanceMarketOptions.MarketType", "on-demand")
    context = {
        "ec2:InstanceType": [parameters.get("InstanceType", "")],
        "ec2:InstanceMarketType": [market],
        "ec2:MetadataHttpTokens": [parameters.get("MetadataOptions.HttpTokens", "optional")],
        **({"ec2:InstanceProfile": [f"arn:aws:iam::{ACCOUNT}:instance-profile/{profile}"]} if profile else {}),
    }
    created = {"instance": context, "network-interface": {}, "volume": {}}
    if "spot-instances-request" in requested:  # without tags, none is checked
        created["spot-instances-request"] = {}
    pass_role = []
    if profile:
        roles = iam_backends[ACCOUNT]["aws"].get_instance_profile(profile).roles
        service = {"iam:PassedToService": ["ec2.amazonaws.com"]}
        pass_role = [Permission("iam:PassRole", role.arn, service) for role in roles]
    return [
        *(Permission("ec2:RunInstances", _arn(value), _existing_tags(value)) for value in resources),
        *(
            Permission("ec2:RunInstances", _arn(kind), context | _request_context(requested.get(kind, {})))
            for kind, context in created.items()
        ),
        *_tag_permissions(call),
        *pass_role,
    ]


def _tag_permissions(call: Call) -> list[Permission]:
    """Return the permissions to tag the resources that a call creates."""
    return [
        Permission("ec2:CreateTags", _arn(kind), _request_context(tags) | {"ec2:CreateAction": [call.operation]})
        for kind, tags in _requested_tags(call).items()
        if kind
    ]


def _requested_tags(call: Call) -> dict[str, dict[str, str]]:
    """Return the tags of a request by resource type; those of CreateTags have the type ''."""
    pairs: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for name, value in call.parameters.items():
        if match := re.fullmatch(r"(?:TagSpecification\.(\d+)\.)?Tag\.(\d+)\.(Key|Value)", name):
            pairs[match[1] or "", match[2]][match[3]] = value
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    for (specification, _), pair in pairs.items():
        kind = call.parameters[f"TagSpecification.{specification}.ResourceType"] if specification else ""
        tags[kind][pair["Key"]] = pair.get("Value", "")
    return tags


def _request_context(tags: dict[str, str]) -> dict[str, list[str]]:
    values = {f"aws:RequestTag/{name}": [value] for name, value in tags.items()}
    return values | ({"aws:TagKeys": list(tags)} if tags else {})


def _existing_tags(resource: str) -> dict[str, list[str]]:
    described: list[dict[str, Any]] = ec2_backends[ACCOUNT][REGION].describe_tags({"resource-id": [resource]})
    tags = {tag["key"]: [tag["value"]] for tag in described}
    return {f"{prefix}:ResourceTag/{name}": value for prefix in ("aws", "ec2") for name, value in tags.items()}


def _arn(resource: str) -> str:
    """Return the ARN of an id, or of all resources of a type. Images and snapshots of AWS have no account."""
    kind = EC2_RESOURCE_TYPES.get(resource.partition("-")[0]) if resource not in EC2_RESOURCE_TYPES.values() else None
    account = "" if (kind or resource) in ("image", "snapshot") else ACCOUNT
    return f"arn:aws:ec2:{REGION}:{account}:{f'{kind}/{resource}' if kind else f'{resource}/*'}"


def _parameter_arn(name: str) -> str:
    account = "" if name.startswith("/aws/") else ACCOUNT
    return f"arn:aws:ssm:{REGION}:{account}:parameter/{name.lstrip('/')}"
