"""Reap: terminate forgotten instances. The third safety net, independent of the process that launched them.

With a run it terminates all instances of that run; without, all instances of this project past their deadline. Each
instance also shuts itself down, and the launching process terminates it too; this module relies on neither.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from continuous_training.compute.ec2 import termination
from continuous_training.documents import Value

if TYPE_CHECKING:
    from continuous_training.compute.ec2.aws import Aws

log = logging.getLogger(__name__)


class ReapReport(Value):
    """The ids of terminated instances and deleted volumes, and the keys of aborted uploads."""

    instances: list[str]
    volumes: list[str]
    uploads: list[str]


def reap(aws: Aws, bucket: str | None, run: str | None = None, *, dry_run: bool = False) -> ReapReport:
    """Terminate instances, and delete what instances and uploads have left behind.

    Args:
        aws: the clients.
        bucket: the bucket whose unfinished uploads are aborted, if any.
        run: the run whose instances are terminated whatever their deadline (`tags.run_identifier`); None for all
            instances past their deadline. One whose deadline cannot be read counts as past it.
        dry_run: only log which instances would be terminated.

    Raises:
        UserError: AWS does not respond, or an instance could not be terminated; the others are terminated all the same.
    """
    due = [
        instance
        for instance in termination.list_instances(aws, run)
        if run or instance.deadline is None or instance.deadline + termination.DEADLINE_GRACE < aws.now
    ]
    instance_ids = [instance.id for instance in due]
    for instance in due:
        deadline = f"deadline {instance.deadline:%Y-%m-%d %H:%M} UTC" if instance.deadline else "no deadline"
        action = "Would terminate" if dry_run else "Terminating"
        log.info("%s %s, %s, of %s", action, instance.id, deadline, instance.run or "no run")
    if dry_run:
        return ReapReport(instances=instance_ids, volumes=[], uploads=[])
    try:
        termination.terminate_instances(aws, instance_ids)
    finally:  # a failure must not keep the rest
        volumes = termination.delete_orphaned_volumes(aws, run)
        uploads = termination.abort_stale_uploads(aws, bucket) if bucket else []
    return ReapReport(instances=instance_ids, volumes=volumes, uploads=uploads)
