"""Bake AMI: an image that has the packages of requirements.lock, so that machines train a minute after their launch.

An instance of a stock image installs them, shows on a few rows that it can train, and becomes the image.
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
    image_lifecycle,
    images,
    launch,
    prices,
    storage,
    termination,
    training,
)
from continuous_training.compute.ec2.account import Place, identity
from continuous_training.compute.ec2.budget import Budget
from continuous_training.compute.ec2.launch import Ground, Order
from continuous_training.compute.ec2.signals import deferred
from continuous_training.compute.ec2.watcher import Watched
from continuous_training.documents import Value
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from continuous_training.compute.ec2.aws import Aws
    from continuous_training.compute.ec2.user_data import Task
    from continuous_training.documents import Run, Snapshot, SnapshotFile
    from continuous_training.settings import Settings

log = logging.getLogger(__name__)

TRAIN_ROWS, FRESH_ROWS = 2000, 500


class Baked(Value):
    """A new image, the hash of the lock whose packages are in it, and the ids of what was removed for it."""

    id: str
    lock: str
    removed: list[str]


def bake(aws: Aws, run: Run, settings: Settings, snapshot: Snapshot, source: str | None = None, keep: int = 3) -> Baked:
    """Make an image, and remove all of this project's but the newest.

    Args:
        aws: the account.
        run: whose commit and lock are baked.
        settings: compute.max_hours and max_cost_usd hold here too.
        snapshot: a few of its rows are trained on.
        source: the id of the image to start from; None is the newest stock one.
        keep: how many images stay, the new one among them.

    Raises:
        UserError: something failed; then there is no new image, and the instance is ended.
    """
    place, limits = Place.find(), settings.ec2
    launch.closed(aws, place)
    image = images.described(aws, source, "as --from says") if source else images.stock(aws)
    costs = {kind: prices.an_hour(aws, kind, limits) for kind in limits.instance_types}
    ground = Ground(place, limits, run, image, costs)
    log.info("Baking from %s, %s", image.id, image.made_from)
    made = _make(aws, ground, _task(aws, ground, settings, snapshot))
    if place.ami:
        log.warning("Runs still start from %s, as CT_AMI says", place.ami)
    return Baked(id=made, lock=run.lock, removed=image_lifecycle.prune(aws, keep, place.ami))


def _make(aws: Aws, ground: Ground, task: Task) -> str:
    """Launch an instance, see that it trains, and make an image of it; end all instances of the run in any case."""
    budget = Budget(ground.given, 1)
    attempt = f"runs/bake-{time.time_ns()}"  # a folder that no other has
    order = Order(attempt, f"{attempt}/checkpoint", task, spot=False, minutes=lambda price: budget.minutes("", price))
    launched: list[str] = []
    try:
        machine = launch.launch(aws, ground, order, launched)
        watched = Watched(aws, ground.given, machine, storage.Folder(aws, ground.place.bucket, attempt))
        while (ended := watched.look()) is None:
            time.sleep(ground.given.heartbeat_seconds / training.LOOKS)
        if ended.kind != "done":
            log.error("The last lines of its log:\n%s", "\n".join(watched.last()))
            raise UserError(f"there is no new image: {ended.message}")
        made = image_lifecycle.create(aws, machine.id, ground.run.lock, ground.run.commit)
        log.info("Baked %s in %.0f min, for about %.3f USD", made, machine.seconds / 60, machine.usd)
        return made
    finally:
        with deferred():
            termination.end_all(aws, launched, identity(ground.run.build_tag, ground.run.build_url))


def _task(aws: Aws, ground: Ground, settings: Settings, snapshot: Snapshot) -> Task:
    """Return the task to train on a few rows, and to tell no tracking server of it: MLflow keeps it on the instance."""
    run = ground.run
    storage.examine(aws, ground.place.bucket)
    with tempfile.TemporaryDirectory() as name, bundle.packed(run.commit) as code:
        rows = [
            _few(snapshot.train, TRAIN_ROWS, settings, Path(name)),
            _few(snapshot.fresh, FRESH_ROWS, settings, Path(name)),
        ]
        files = dict(zip(("code", "train_rows", "fresh_rows"), [code, *rows], strict=True))
        inputs = {what: storage.keep(aws, ground.place.bucket, path) for what, path in files.items()}
    command = training.entry_point(run, settings.model.trials[0])
    return training.task(aws, ground, "", inputs, command, stays=True)


def _few(part: SnapshotFile, limit: int, settings: Settings, folder: Path) -> Path:
    """Keep every n-th row in the order of time, of each class its own: no class is lost, and no part of the time."""
    step = math.ceil(part.rows / limit)
    target, moment = (f'"{name.replace(chr(34), chr(34) * 2)}"' for name in (settings.data.target, settings.data.time))
    classes = f"PARTITION BY {target}" if settings.model.task == "classification" else ""
    every = f"(row_number() OVER ({classes} ORDER BY {moment}) - 1) % {step} = 0"
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT * FROM read_parquet(?) QUALIFY {every}", [str(part.path)])  # noqa: S608
        rows = found.to_arrow_table().cast(pq.read_schema(part.path).remove_metadata())
    pq.write_table(rows, folder / part.path.name)
    return folder / part.path.name
