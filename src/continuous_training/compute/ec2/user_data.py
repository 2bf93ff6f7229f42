"""The user data of an instance: user_data.sh.j2, filled in."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

TEMPLATE = Path(__file__).with_name("user_data.sh.j2")
LIMIT = 16 * 1024  # bytes, before base64: EC2's


@dataclass(frozen=True)
class Task:
    """What an instance is to do.

    `code`, `train_rows` and `fresh_rows` are the SHA-256 of objects in S3; `command` runs in the folder of the code,
    beside which `../snapshot` lies. An instance that `stays` does not shut down when it is done, only at its deadline.
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
    command: Sequence[str]
    heartbeat_seconds: float
    stays: bool = False


def render(task: Task, attempt: str, checkpoint: str, minutes: int) -> str:
    """Return the script of an instance that ends itself after so many minutes, whatever happens.

    Args:
        task: what it does.
        attempt: the key of its folder in S3.
        checkpoint: the key at which one attempt leaves its checkpoint to the next.
        minutes: the deadline, counted on the instance from its first second: no clock needs to be right.

    Raises:
        UserError: EC2 takes no user data as long as that.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 - it is bash, and each value is quoted
    environment.filters["quote"] = shlex.quote
    asked = {"Name": task.secret_parameter, "WithDecryption": True}
    given = vars(task) | {"secret_request": json.dumps(asked) if task.secret_parameter else None}
    given |= {"attempt": attempt, "checkpoint": checkpoint, "minutes": minutes}
    script = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(given)
    if len(script.encode()) > LIMIT:
        raise UserError(
            f"the user data has {len(script.encode()):,} bytes, and EC2 takes {LIMIT:,}: shorten the grid's values"
        )
    return script
