"""Bake an AMI with the packages of a model, so that training starts a minute after the launch.

An instance of a stock image installs the packages, trains on a few rows to prove that it can, and becomes the image.
There is one for each platform of compute.instance_types.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow.parquet as pq

from continuous_training.compute.ec2 import (
    bundle,
    fleet,
    image_lifecycle,
    images,
    instance_types,
    launch,
    storage,
    termination,
    training,
)
from continuous_training.compute.ec2.account import Account
from continuous_training.compute.ec2.budget import Budget
from continuous_training.compute.ec2.launch import LaunchContext, LaunchRequest
from continuous_training.compute.ec2.signals import defer_signals
from continuous_training.compute.ec2.tags import run_identifier
from continuous_training.compute.ec2.watcher import AttemptWatcher
from continuous_training.documents import Value
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from continuous_training.compute.ec2.aws import Aws
    from continuous_training.compute.ec2.images import Image, Platform
    from continuous_training.compute.ec2.user_data import Task
    from continuous_training.documents import Run, Snapshot, SnapshotFile
    from continuous_training.settings import Settings

log = logging.getLogger(__name__)

TRAIN_ROWS, FRESH_ROWS = 2000, 500


class BakeReport(Value):
    """The ids of the new images by platform, the hash of their lock, and the ids of deleted images and snapshots."""

    images: dict[str, str]
    lock: str
    removed: list[str]


def bake(
    aws: Aws, run: Run, settings: Settings, snapshot: Snapshot, source: str | None = None, keep: int = 3
) -> BakeReport:
    """Create an image for each platform, and delete all of this project's images but the newest.

    Args:
        aws: the clients.
        run: the run whose commit and lock are baked.
        settings: compute.max_hours and max_cost_usd apply to each image.
        snapshot: the trial training uses a few of its rows.
        source: the id of the image to start from; None is the newest stock image of each platform.
        keep: how many images of each platform stay, including the new one.

    Raises:
        UserError: a step failed; there is no new image of this platform, and the instance is terminated.
    """
    account, compute = Account.from_environment(), settings.ec2
    launch.check_security_group(aws, account.security_group)

    def find_image(platform: Platform) -> Image:
        if source:
            return images.describe_image(aws, source, "set by --from")
        return images.find_stock_image(aws, platform)

    types = instance_types.prepare_types(aws, compute, find_image)
    task = _build_task(aws, LaunchContext(account, compute, run, types), settings, snapshot)
    created = {}
    for platform in dict.fromkeys(instance_type.hardware.platform for instance_type in types.values()):
        fitting = {name: one for name, one in types.items() if one.hardware.platform == platform}
        created[str(platform)] = _create_image(aws, LaunchContext(account, compute, run, fitting), platform, task)
    if account.ami:
        log.warning("Runs still start from %s, because CT_AMI is set", account.ami)
    return BakeReport(images=created, lock=run.lock, removed=image_lifecycle.prune_images(aws, keep, account.ami))


def _create_image(aws: Aws, context: LaunchContext, platform: Platform, task: Task) -> str:
    """Launch an instance, wait until it has trained, and create an image of it; terminate all instances in any case."""
    run, settings = context.run, context.settings
    budget = Budget(settings)
    attempt_key = f"runs/bake-{time.time_ns()}"  # unique
    request = LaunchRequest(
        attempt_key,
        f"{attempt_key}/checkpoint",
        task,
        spot=False,
        deadline_minutes=lambda price: budget.deadline_minutes("", price),
    )
    instance_ids: list[str] = []
    try:
        instance = launch.launch_instance(aws, context, request, instance_ids)
        folder = storage.AttemptFolder(aws, context.account.bucket, attempt_key)
        watcher = AttemptWatcher(aws, settings, instance, folder)
        while (outcome := watcher.poll()) is None:
            time.sleep(settings.heartbeat_seconds / fleet.POLLS_PER_HEARTBEAT)
        if outcome.kind != "done":
            log.error("The last lines of its log:\n%s", "\n".join(watcher.tail()))
            raise UserError(f"there is no new image for {platform}: {outcome.message}")
        image_id = image_lifecycle.create_image(aws, instance.id, platform, run.lock, run.commit)
        minutes = instance.age_seconds / 60
        log.info("Baked %s for %s in %.0f min, for about %.3f USD", image_id, platform, minutes, instance.cost_usd)
        return image_id
    finally:
        with defer_signals():
            termination.terminate_run(aws, instance_ids, run_identifier(run.build_tag, run.build_url))


def _build_task(aws: Aws, context: LaunchContext, settings: Settings, snapshot: Snapshot) -> Task:
    """Return the task that trains on a few rows without a tracking server: MLflow logs to files on the instance."""
    run, bucket = context.run, context.account.bucket
    storage.check_bucket(aws, bucket)
    with tempfile.TemporaryDirectory() as name, bundle.archive_commit(run.commit) as code:
        files = {
            "code": code,
            "train_rows": _sample_rows(snapshot.train, TRAIN_ROWS, settings, Path(name)),
            "fresh_rows": _sample_rows(snapshot.fresh, FRESH_ROWS, settings, Path(name)),
        }
        inputs = {field: storage.upload_file(aws, bucket, path) for field, path in files.items()}
    command = training.build_command(run, settings.model.first_values)
    return training.build_task(aws, context, "", inputs, command, stay_running=True)


def _sample_rows(part: SnapshotFile, limit: int, settings: Settings, folder: Path) -> Path:
    """Write every n-th row in order of time, within each class, so that every class and period is represented."""
    step = math.ceil(part.rows / limit)
    target, time_column = (
        f'"{name.replace(chr(34), chr(34) * 2)}"' for name in (settings.data.targets[0], settings.data.time)
    )
    classes = f"PARTITION BY {target}" if settings.model.task == "classification" else ""
    every_nth = f"(row_number() OVER ({classes} ORDER BY {time_column}) - 1) % {step} = 0"
    path = folder / part.path.name
    with duckdb.connect() as connection:
        query = f"SELECT * FROM read_parquet(?) QUALIFY {every_nth}"  # noqa: S608
        rows = connection.execute(query, [str(part.path)]).to_arrow_table()
    pq.write_table(rows.cast(pq.read_schema(part.path).remove_metadata()), path)
    return path
