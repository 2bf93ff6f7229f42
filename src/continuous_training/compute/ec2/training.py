"""Training on EC2: each trial on an instance of its own, several at once, and none that outlives this process."""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from continuous_training.compute.ec2 import bundle, images, launch, prices, storage, termination
from continuous_training.compute.ec2.account import Place, identity, tracking_uri
from continuous_training.compute.ec2.aws import Aws
from continuous_training.compute.ec2.budget import Budget
from continuous_training.compute.ec2.launch import Ground, Order
from continuous_training.compute.ec2.signals import deferred
from continuous_training.compute.ec2.user_data import Task
from continuous_training.compute.ec2.watcher import Watched
from continuous_training.errors import UserError
from continuous_training.registry import connection, runs
from continuous_training.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from continuous_training.compute import Trial
    from continuous_training.compute.ec2.watcher import End
    from continuous_training.documents import Run, Snapshot

log = logging.getLogger(__name__)

LOOKS = 3  # in the time of a heartbeat


def train(run: Run, snapshot: Snapshot, trials: Sequence[Trial]) -> None:
    """Run MLproject's entry point `train` for each trial on an instance, logging to the trial's MLflow run.

    Raises:
        UserError: one of them failed; its sentence says how, and no instance is alive then either.
    """
    settings = load_settings(run.model).ec2
    aws, place, to = Aws(), Place.find(), tracking_uri()
    launch.closed(aws, place)
    costs = {kind: prices.an_hour(aws, kind, settings) for kind in settings.instance_types}
    ground = Ground(place, settings, run, images.choose(aws, place, run.lock), costs)
    log.info("Instances start from %s, %s", ground.image.id, ground.image.made_from)
    inputs = send(aws, place.bucket, run, snapshot)
    fleet = Fleet(
        aws,
        ground,
        lambda trial: task(aws, ground, to, inputs, entry_point(run, trial.parameters, trial.run_id)),
        trials,
    )
    try:
        fleet.train()
    except BaseException:
        with deferred():
            try:
                fleet.end()
            except UserError as problem:  # which is not why the training failed
                log.error("%s", problem)  # noqa: TRY400
            fleet.record()
        raise
    fleet.end()
    fleet.record()


def send(aws: Aws, bucket: str, run: Run, snapshot: Snapshot) -> dict[str, str]:
    """Send code and rows to S3; return the SHA-256 of each."""
    storage.examine(aws, bucket)
    with bundle.packed(run.commit) as code:
        files = {"code": code, "train_rows": snapshot.train.path, "fresh_rows": snapshot.fresh.path}
        return {name: storage.keep(aws, bucket, path) for name, path in files.items()}


def entry_point(run: Run, parameters: Mapping[str, Any], run_id: str | None = None) -> list[str]:
    """Return the command that runs MLproject's entry point on an instance, filling an MLflow run or a new one."""
    given = {"model": run.model, "snapshot": "../snapshot", "parameters": json.dumps(parameters)}
    words = [word for name, value in given.items() for word in ("-P", f"{name}={value}")]
    fills = ["--run-id", run_id] if run_id else []
    return ["mlflow", "run", ".", "--entry-point", "train", "--env-manager", "local", *fills, *words]


def task(aws: Aws, ground: Ground, to: str, inputs: dict[str, str], command: list[str], *, stays: bool = False) -> Task:
    """Return what an instance is to do: run a command, in the code's folder and beside the snapshot."""
    return Task(
        bucket_url=f"{aws.s3.meta.endpoint_url}/{ground.place.bucket}",
        ssm_url=aws.ssm.meta.endpoint_url,
        region=aws.region,
        tracking_uri=to,
        mlflow_username=ground.place.mlflow_username,
        secret_parameter=ground.place.mlflow_secret_parameter if to else None,
        command=command,
        heartbeat_seconds=ground.given.heartbeat_seconds,
        stays=stays,
        **inputs,
    )


@dataclass(frozen=True)
class Attempt:
    """A trial on its way: which attempt this is, and the instance that makes it."""

    trial: Trial
    number: int
    spot: bool
    watched: Watched


class Fleet:
    """The instances of one run, and what they cost."""

    def __init__(self, aws: Aws, ground: Ground, task_of: Callable[[Trial], Task], trials: Sequence[Trial]) -> None:
        self._aws, self._ground, self._task_of = aws, ground, task_of
        self._budget = Budget(ground.given, len(trials))
        self._labels = {trial.run_id: f"[{number}] " for number, trial in enumerate(trials, 1) if len(trials) > 1}
        self._waiting = deque((trial, 1, ground.given.spot) for trial in trials)
        self._under_way: list[Attempt] = []
        self._launched: list[str] = []  # ids of instances that are not ended yet
        self._had: defaultdict[str, list[str]] = defaultdict(list)  # which instances a trial had, in words
        self._done: set[str] = set()

    def train(self) -> None:
        """Train all trials, `at_once` of them at a time; one whose spot instance is taken back goes on on demand.

        Raises:
            UserError: one failed.
        """
        while self._waiting or self._under_way:
            while self._waiting and len(self._under_way) < self._ground.given.at_once:
                self._begin(*self._waiting.popleft())
            time.sleep(self._ground.given.heartbeat_seconds / LOOKS)
            for attempt in list(self._under_way):
                if ended := attempt.watched.look():
                    self._conclude(attempt, ended)

    def end(self) -> None:
        """End every instance of this run, those too that were launched without this process' hearing of it.

        Raises:
            UserError: one could not be ended.
        """
        ours = identity(self._ground.run.build_tag, self._ground.run.build_url)
        try:
            termination.end_all(self._aws, self._launched, ours)
        finally:
            for attempt in self._under_way:
                self._pay(attempt)

    def record(self) -> None:
        """Log to MLflow what each trial had and cost, and close the MLflow runs that an instance has left open."""
        log.info("All instances together cost about %.3f USD", sum(self._budget.usd.values()))
        try:
            client = connection.open_client()
            for run_id, seconds in self._budget.seconds.items():
                client.log_metric(run_id, "ec2_seconds", round(seconds, 1))
                client.log_metric(run_id, "ec2_cost_usd", round(self._budget.usd[run_id], 6))
                client.set_tag(run_id, "ct.instances", "; ".join(self._had[run_id]))
                if run_id not in self._done:
                    runs.close_as_failed(client, run_id)
        except Exception as error:
            log.warning("MLflow was not told what the instances cost: %s", error)

    def _begin(self, trial: Trial, number: int, spot: bool) -> None:
        kept = f"runs/{trial.run_id}"
        order = Order(
            attempt=f"{kept}/{number}",
            checkpoint=f"{kept}/checkpoint",
            task=self._task_of(trial),
            spot=spot,
            minutes=lambda price: self._budget.minutes(trial.run_id, price),
        )
        machine = launch.launch(self._aws, self._ground, order, self._launched)
        self._had[trial.run_id].append(f"{machine.id}, {machine.offer}")
        folder = storage.Folder(self._aws, self._ground.place.bucket, order.attempt)
        label = self._labels.get(trial.run_id, "")
        watched = Watched(self._aws, self._ground.given, machine, folder, label)
        self._under_way.append(Attempt(trial, number, spot, watched))

    def _conclude(self, attempt: Attempt, ended: End) -> None:
        if ended.kind == "done":
            self._done.add(attempt.trial.run_id)
        elif ended.kind == "interrupted" and attempt.spot:
            log.info("%s: trained once more, on demand", ended.message)
            self._waiting.appendleft((attempt.trial, attempt.number + 1, False))
        else:
            log.error("The last lines of its log:\n%s", "\n".join(attempt.watched.last()))
            raise UserError(ended.message)
        termination.end(self._aws, [attempt.watched.machine.id])
        self._launched.remove(attempt.watched.machine.id)
        self._under_way.remove(attempt)
        self._pay(attempt)

    def _pay(self, attempt: Attempt) -> None:
        machine = attempt.watched.machine
        self._budget.spend(attempt.trial.run_id, machine.seconds, machine.price)
