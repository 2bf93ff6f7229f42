"""Which permissions a call needs, as AWS's Service Authorization Reference has them."""

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

S3_ACTIONS = {  # where the action is not called like the operation
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
EC2_KINDS = {
    "i": "instance",
    "ami": "image",
    "eni": "network-interface",
    "sg": "security-group",
    "sir": "spot-instances-request",
    "snap": "snapshot",
    "subnet": "subnet",
    "vol": "volume",
}


def needed(call: Call) -> list[Permission]:
    """Return all that a caller must be allowed for this call to be made."""
    action = f"{call.service}:{call.operation}"
    match call.service:
        case "s3":
            return _of_s3(call)
        case "ec2" if call.operation == "RunInstances":
            return _to_run_instances(call)
        case "ec2" if not call.operation.startswith("Describe"):
            return _of_ec2(call)
        case "ssm" if "Name" in call.parameters or "Names" in call.parameters:
            names = call.parameters.get("Names") or [call.parameters["Name"]]
            return [Permission(action, _parameter(name)) for name in names]
        case "sts" if call.operation == "GetCallerIdentity":
            return []
    return [Permission(action)]


def listing(call: Call) -> Permission:
    """Return what it takes to be told that an object is not there: without it, S3 says that access is denied."""
    return Permission("s3:ListBucket", f"arn:aws:s3:::{call.parameters['Bucket']}")


def _of_s3(call: Call) -> list[Permission]:
    action = f"s3:{S3_ACTIONS.get(call.operation, call.operation)}"
    context = {"aws:SecureTransport": ["true"]}  # as if: this machine's loopback needs none
    if action == "s3:ListBucket" and "prefix" in call.parameters:
        context["s3:prefix"] = [call.parameters["prefix"]]
    if call.operation == "ListBuckets":
        return [Permission(action, "*", context)]
    bucket = f"arn:aws:s3:::{call.parameters['Bucket']}"
    key = call.parameters.get("Key")
    return [Permission(action, f"{bucket}/{key}" if key else bucket, context)]


def _of_ec2(call: Call) -> list[Permission]:
    """Return the permission for each resource that the parameters name, with its tags."""
    action, requested = f"ec2:{call.operation}", _requested_tags(call)
    found = [
        Permission(action, _arn(value), _existing_tags(value) | _request_context(requested.get("", {})))
        for name, value in call.parameters.items()
        if isinstance(value, str) and value.partition("-")[0] in EC2_KINDS and re.search(r"Ids?(\.|$)", name)
    ]
    if call.operation == "CreateImage":
        found += [
            Permission(action, _arn(kind), _request_context(requested.get(kind, {}))) for kind in ("image", "snapshot")
        ]
    return [*(found or [Permission(action)]), *_to_tag(call)]


def _to_run_instances(call: Call) -> list[Permission]:
    parameters, requested = call.parameters, _requested_tags(call)
    used = [value for value in parameters.values() if re.fullmatch(r"(ami|subnet|sg)-\w+", value)]
    profile = parameters.get("IamInstanceProfile.Name")
    market = parameters.get("InstanceMarketOptions.MarketType", "on-demand")
    context = {
        "ec2:InstanceType": [parameters.get("InstanceType", "")],
        "ec2:InstanceMarketType": [market],
        "ec2:MetadataHttpTokens": [parameters.get("MetadataOptions.HttpTokens", "optional")],
        **({"ec2:InstanceProfile": [f"arn:aws:iam::{ACCOUNT}:instance-profile/{profile}"]} if profile else {}),
    }
    made = {"instance": context, "network-interface": {}, "volume": {}}
    if "spot-instances-request" in requested:  # one without tags is not asked for
        made["spot-instances-request"] = {}
    pass_role = []
    if profile:
        roles = iam_backends[ACCOUNT]["aws"].get_instance_profile(profile).roles
        service = {"iam:PassedToService": ["ec2.amazonaws.com"]}
        pass_role = [Permission("iam:PassRole", role.arn, service) for role in roles]
    return [
        *(Permission("ec2:RunInstances", _arn(value), _existing_tags(value)) for value in used),
        *(
            Permission("ec2:RunInstances", _arn(kind), given | _request_context(requested.get(kind, {})))
            for kind, given in made.items()
        ),
        *_to_tag(call),
        *pass_role,
    ]


def _to_tag(call: Call) -> list[Permission]:
    """Return what it takes to tag what a call makes, at once."""
    return [
        Permission("ec2:CreateTags", _arn(kind), _request_context(tags) | {"ec2:CreateAction": [call.operation]})
        for kind, tags in _requested_tags(call).items()
        if kind
    ]


def _requested_tags(call: Call) -> dict[str, dict[str, str]]:
    """Return the tags of a request by the kind of resource they are for; those of CreateTags are for the kind ''."""
    pairs: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for name, value in call.parameters.items():
        if found := re.fullmatch(r"(?:TagSpecification\.(\d+)\.)?Tag\.(\d+)\.(Key|Value)", name):
            pairs[found[1] or "", found[2]][found[3]] = value
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    for (specification, _), pair in pairs.items():
        kind = call.parameters[f"TagSpecification.{specification}.ResourceType"] if specification else ""
        tags[kind][pair["Key"]] = pair.get("Value", "")
    return tags


def _request_context(tags: dict[str, str]) -> dict[str, list[str]]:
    named = {f"aws:RequestTag/{name}": [value] for name, value in tags.items()}
    return named | ({"aws:TagKeys": list(tags)} if tags else {})


def _existing_tags(resource: str) -> dict[str, list[str]]:
    found: list[dict[str, Any]] = ec2_backends[ACCOUNT][REGION].describe_tags({"resource-id": [resource]})
    tags = {tag["key"]: [tag["value"]] for tag in found}
    return {f"{prefix}:ResourceTag/{name}": value for prefix in ("aws", "ec2") for name, value in tags.items()}


def _arn(resource: str) -> str:
    """Return the ARN of an id, or of all resources of a kind. AWS's images and snapshots belong to no account."""
    kind = EC2_KINDS.get(resource.partition("-")[0]) if resource not in EC2_KINDS.values() else None
    account = "" if (kind or resource) in ("image", "snapshot") else ACCOUNT
    return f"arn:aws:ec2:{REGION}:{account}:{f'{kind}/{resource}' if kind else f'{resource}/*'}"


def _parameter(name: str) -> str:
    account = "" if name.startswith("/aws/") else ACCOUNT
    return f"arn:aws:ssm:{REGION}:{account}:parameter/{name.lstrip('/')}"
