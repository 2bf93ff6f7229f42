"""The user data of an instance: user_data.sh.j2, rendered."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.compute.ec2.instance_types import InstanceType

TEMPLATE = Path(__file__).with_name("user_data.sh.j2")
MAX_BYTES = 16 * 1024  # EC2's limit, before base64


@dataclass(frozen=True)
class Task:
    """What an instance does.

    `code`, `train_rows` and `fresh_rows` are the SHA-256 of objects in S3. `command` runs in the folder of the code,
    where `package` is the path of the model's package; the snapshot is at `../snapshot`. With `stay_running` the
    instance does not shut down when the command has succeeded, but at its deadline.
    """

    bucket_url: str
    region: str
    ssm_url: str
    tracking_uri: str
    mlflow_username: str | None
    secret_parameter: str | None
    code: str
    train_rows: str
    fresh_rows: str
    package: str
    command: Sequence[str]
    heartbeat_seconds: float
    stay_running: bool = False


def render(
    task: Task, instance_type: InstanceType, attempt_key: str, checkpoint_key: str, deadline_minutes: int
) -> str:
    """Return the script of an instance that shuts itself down at its deadline, whatever happens.

    Args:
        task: what it does.
        instance_type: the type of the instance, whose GPUs it checks.
        attempt_key: the S3 key of the attempt's folder.
        checkpoint_key: the S3 key of the checkpoint that one attempt leaves for the next.
        deadline_minutes: the deadline, counted on the instance from its first second, so that no clock must be right.

    Raises:
        UserError: the script is longer than EC2 accepts.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 - it is bash, and each value is quoted
    environment.filters["quote"] = shlex.quote
    secret_request = {"Name": task.secret_parameter, "WithDecryption": True}
    variables = vars(task) | {
        "secret_request": json.dumps(secret_request) if task.secret_parameter else None,
        "instance_type": instance_type.name,
        "gpus": instance_type.hardware.gpus,
        "attempt_key": attempt_key,
        "checkpoint_key": checkpoint_key,
        "deadline_minutes": deadline_minutes,
    }
    script = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(variables)
    if len(script.encode()) > MAX_BYTES:
        raise UserError(
            f"the user data has {len(script.encode()):,} bytes, EC2 accepts {MAX_BYTES:,}: shorten addresses, or the "
            "first values of model.grid"
        )
    return script
