"""Reap: end what was forgotten on AWS. The third net, which needs nothing of the process that launched it.

With a run it ends whatever that run still has; without, every instance of this project past its deadline. Each instance
ends itself too, and the process that launched it ends it as well; neither is relied upon here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from continuous_training.compute.ec2 import termination
from continuous_training.documents import Value

if TYPE_CHECKING:
    from continuous_training.compute.ec2.aws import Aws

log = logging.getLogger(__name__)


class Reaped(Value):
    """What was ended, deleted and aborted."""

    instances: list[str]
    volumes: list[str]
    uploads: list[str]


def reap(aws: Aws, bucket: str | None, run: str | None = None, *, dry: bool = False) -> Reaped:
    """End instances and remove what instances and uploads have left behind.

    Args:
        aws: the account.
        bucket: where unfinished uploads are looked for, if anywhere.
        run: whose instances end whatever their deadline (account.identity); None for all that are past theirs.
        dry: only say what would be ended.

    Raises:
        UserError: AWS does not answer, or an instance could not be ended; the others are ended all the same.
    """
    found = termination.living(aws, run)
    due = [one for one in found if run or one.deadline is None or one.deadline + termination.TARDY < aws.now]
    for one in due:
        until = f"deadline {one.deadline:%Y-%m-%d %H:%M} UTC" if one.deadline else "without a deadline"
        log.info("%s %s, %s, of %s", "Would end" if dry else "Ending", one.id, until, one.run or "no run")
    if dry:
        return Reaped(instances=[one.id for one in due], volumes=[], uploads=[])
    try:
        termination.end(aws, [one.id for one in due])
    finally:  # one that cannot be ended keeps nothing else alive
        volumes = termination.delete_volumes(aws, run)
        uploads = termination.abort_uploads(aws, bucket) if bucket else []
    return Reaped(instances=[one.id for one in due], volumes=volumes, uploads=uploads)
