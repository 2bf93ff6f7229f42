"""The tags on everything that this project creates on AWS. jenkins/iam-policy.json restricts Jenkins to them."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT = "continuous-training"  # the value of PROJECT_TAG

PROJECT_TAG = "ct:project"
RUN_TAG = "ct:run"  # on an instance and its volume: `run_identifier`
DEADLINE_TAG = "ct:deadline"  # on an instance: when it shuts itself down, by AWS's clock, ISO 8601
LOCK_TAG = "ct:lock"  # on an image: hash of the locks whose packages it contains
COMMIT_TAG = "ct:commit"  # on an image
GPU_TAG = "ct:gpu"  # on an image that was made on an instance with GPUs, and has their drivers

PROJECT_FILTER = {"Name": f"tag:{PROJECT_TAG}", "Values": [PROJECT]}


def run_identifier(build_tag: str, build_url: str) -> str:
    """Return an identifier of a run that is unique across Jenkins controllers, whose build tags may be equal."""
    if build_url.startswith(("http://", "https://")):
        return build_url[:256]
    return f"{socket.gethostname()}:{Path.cwd()} {build_tag}"[-256:]


def run_filters(run: str | None) -> list[dict[str, Any]]:
    """Return the EC2 filters for this project's resources: all of them, or those of one run (`run_identifier`)."""
    return [PROJECT_FILTER, *([{"Name": f"tag:{RUN_TAG}", "Values": [run]}] if run else [])]


def read_tags(resource: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags in EC2's description of a resource, by name."""
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags", [])}


def to_tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags in the form that EC2's API takes. EC2 allows 256 characters for a value."""
    return [{"Key": name, "Value": value[:256]} for name, value in tags.items()]
