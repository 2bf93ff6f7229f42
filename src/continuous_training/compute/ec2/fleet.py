"""The instances of one run: those that search, then the one that trains; retries after interruptions, and the cost."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from continuous_training.compute import PEAK_MEMORY
from continuous_training.compute.ec2 import launch, storage, termination
from continuous_training.compute.ec2.budget import Budget
from continuous_training.compute.ec2.launch import LaunchContext, LaunchRequest
from continuous_training.compute.ec2.tags import run_identifier
from continuous_training.compute.ec2.usage import COST
from continuous_training.compute.ec2.watcher import AttemptWatcher, Outcome
from continuous_training.errors import UserError
from continuous_training.registry import connection, runs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow.entities import Metric

    from continuous_training.compute.ec2.aws import Aws
    from continuous_training.compute.ec2.user_data import Task
    from continuous_training.registry.trials import Share

log = logging.getLogger(__name__)

POLLS_PER_HEARTBEAT = 3
TRAINING = "training"  # the name of the task that is no search


@dataclass(frozen=True)
class Attempt:
    """A running attempt at the search of a share, or at the training if there is none. `number` counts from 1."""

    share: Share | None
    number: int
    spot: bool
    watcher: AttemptWatcher


class Fleet:
    """The instances of one run, and what they cost.

    An instance that only searches saves time and is not needed: if it is lost, the training does its trials.
    """

    def __init__(
        self,
        aws: Aws,
        context: LaunchContext,
        run_id: str,
        shares: Sequence[Share],
        build_task: Callable[[Share | None], Task],
    ) -> None:
        """Begin without an instance.

        Args:
            aws: the clients.
            context: what all instances have in common.
            run_id: the MLflow run of the training.
            shares: the shares of the trials, each for an instance that searches.
            build_task: returns the task of a share, or of the training.
        """
        self._aws, self._context, self._run_id, self._shares = aws, context, run_id, shares
        self._build_task = build_task
        self._budget = Budget(context.settings, [_name(share) for share in shares])
        self._attempts: list[Attempt] = []  # running
        self._instance_ids: list[str] = []  # launched and not yet terminated
        self._instance_descriptions: list[str] = []
        self._is_complete = False
        self._metrics: list[Metric] = []  # of the use of memory by the training

    def search(self) -> None:
        """Do all shares at the same time, and report those that fail."""
        self._run(self._shares)

    def train(self) -> None:
        """Train. After a spot interruption the training is repeated on demand.

        Raises:
            UserError: it failed.
        """
        self._run([None])
        self._is_complete = True

    def terminate(self) -> None:
        """Terminate every instance of this run, including one whose launch was not confirmed to this process.

        Raises:
            UserError: one could not be terminated.
        """
        run = self._context.run
        try:
            termination.terminate_run(self._aws, self._instance_ids, run_identifier(run.build_tag, run.build_url))
        finally:
            for attempt in self._attempts:
                self._charge(attempt)

    def log_usage(self) -> None:
        """Log the instances, their cost and memory to MLflow; close the MLflow run if the training has left it open."""
        usd = sum(self._budget.usd.values())
        log.info("All instances together cost about %.3f USD", usd)
        try:
            client = connection.open_client()
            if self._instance_descriptions:
                client.log_metric(self._run_id, "ec2_seconds", round(sum(self._budget.seconds.values()), 1))
                client.log_metric(self._run_id, COST, round(usd, 6))
                client.set_tag(self._run_id, "ct.instances", connection.clip("; ".join(self._instance_descriptions)))
                client.log_batch(self._run_id, metrics=self._metrics)
            if not self._is_complete:
                runs.fail_open_run(client, self._run_id)
        except Exception as error:
            log.warning("Cannot log the cost and the memory of the instances to MLflow: %s", error)

    def _run(self, shares: Sequence[Share | None]) -> None:
        settings = self._context.settings
        for share in shares:
            self._start(share, 1, spot=settings.spot)
        while self._attempts:
            time.sleep(settings.heartbeat_seconds / POLLS_PER_HEARTBEAT)
            for attempt in list(self._attempts):
                if outcome := self._poll(attempt):
                    self._finish(attempt, outcome)

    def _start(self, share: Share | None, number: int, *, spot: bool) -> None:
        """Launch an instance.

        Raises:
            UserError: that is not possible, and the instance would train.
        """
        name = _name(share)
        folder_key = f"runs/{self._run_id}" if share is None else f"runs/{self._run_id}/{name}"
        request = LaunchRequest(
            attempt_key=f"{folder_key}/{number}",
            checkpoint_key=f"{folder_key}/checkpoint",
            task=self._build_task(share),
            spot=spot,
            deadline_minutes=lambda price: self._budget.deadline_minutes(name, price),
        )
        try:
            instance = launch.launch_instance(self._aws, self._context, request, self._instance_ids)
        except UserError as error:
            self._fail(share, str(error))
            return
        self._instance_descriptions.append(f"{instance.id}, {instance.option}")
        folder = storage.AttemptFolder(self._aws, self._context.account.bucket, request.attempt_key)
        watcher = AttemptWatcher(self._aws, self._context.settings, instance, folder, _label(share))
        self._attempts.append(Attempt(share, number, spot, watcher))

    def _poll(self, attempt: Attempt) -> Outcome | None:
        try:
            return attempt.watcher.poll()
        except UserError as error:  # of AWS, for minutes
            if attempt.share is None:
                raise
            return Outcome("failed", str(error))

    def _finish(self, attempt: Attempt, outcome: Outcome) -> None:
        self._record_usage(attempt, outcome)
        is_interrupted = outcome.kind == "interrupted" and attempt.spot
        if outcome.kind != "done" and not is_interrupted:
            log.error("%sThe last lines of its log:\n%s", _label(attempt.share), "\n".join(attempt.watcher.tail()))
            self._fail(attempt.share, outcome.message)
        instance_id = attempt.watcher.instance.id
        termination.terminate_instances(self._aws, [instance_id])
        self._instance_ids.remove(instance_id)
        self._attempts.remove(attempt)
        self._charge(attempt)
        if is_interrupted:
            log.info("%s%s: once more, on demand", _label(attempt.share), outcome.message)
            self._start(attempt.share, attempt.number + 1, spot=False)

    @staticmethod
    def _fail(share: Share | None, message: str) -> None:
        """Report that a search is lost.

        Raises:
            UserError: it is not a search, but the training.
        """
        if share is None:
            raise UserError(message)
        log.warning("%s%s; the trials that this instance has not done are left to the training", _label(share), message)

    def _record_usage(self, attempt: Attempt, outcome: Outcome) -> None:
        from mlflow.entities import Metric

        instance, usage = attempt.watcher.instance, attempt.watcher.usage
        if attempt.share is None:
            self._metrics += usage.metrics()
            if outcome.peak_memory_mb:
                self._metrics.append(Metric(PEAK_MEMORY, outcome.peak_memory_mb, int(time.time() * 1000), 0))
        if usage.gpu_is_idle:
            kind = instance.option.instance_type
            log.warning("The GPU of %s was never in use: a type without one costs less", kind)

    def _charge(self, attempt: Attempt) -> None:
        instance = attempt.watcher.instance
        self._budget.charge(_name(attempt.share), instance.age_seconds, instance.price)


def _name(share: Share | None) -> str:
    return TRAINING if share is None else f"search-{share.number + 1}"


def _label(share: Share | None) -> str:
    """Return what precedes each line of the log of an instance that searches, to tell it from the others."""
    return "" if share is None else f"[{share.number + 1}] "
