"""The instances of one run: several trials at a time, retries after spot interruptions, and the cost of each trial."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from continuous_training.compute import PEAK_MEMORY
from continuous_training.compute.ec2 import launch, storage, termination
from continuous_training.compute.ec2.budget import Budget
from continuous_training.compute.ec2.launch import LaunchContext, LaunchRequest
from continuous_training.compute.ec2.tags import run_identifier
from continuous_training.compute.ec2.watcher import AttemptWatcher
from continuous_training.errors import UserError
from continuous_training.registry import connection, runs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow.entities import Metric

    from continuous_training.compute import Trial
    from continuous_training.compute.ec2.aws import Aws
    from continuous_training.compute.ec2.user_data import Task
    from continuous_training.compute.ec2.watcher import Outcome

log = logging.getLogger(__name__)

POLLS_PER_HEARTBEAT = 3


@dataclass(frozen=True)
class Attempt:
    """A running attempt at a trial. `number` counts from 1."""

    trial: Trial
    number: int
    spot: bool
    watcher: AttemptWatcher


class Fleet:
    """The instances of one run, and what they cost. `build_task` returns the task of a trial."""

    def __init__(
        self, aws: Aws, context: LaunchContext, build_task: Callable[[Trial], Task], trials: Sequence[Trial]
    ) -> None:
        self._aws, self._context, self._build_task = aws, context, build_task
        self._budget = Budget(context.settings, len(trials))
        self._labels = {trial.run_id: f"[{number}] " for number, trial in enumerate(trials, 1) if len(trials) > 1}
        self._queue = deque((trial, 1, context.settings.spot) for trial in trials)
        self._attempts: list[Attempt] = []  # running
        self._instance_ids: list[str] = []  # launched and not yet terminated
        self._instance_descriptions: defaultdict[str, list[str]] = defaultdict(list)  # by MLflow run
        self._completed: set[str] = set()  # MLflow runs
        self._metrics: defaultdict[str, list[Metric]] = defaultdict(list)  # of the use of memory, by MLflow run

    def train(self) -> None:
        """Train all trials, `at_once` at a time. After a spot interruption a trial is repeated on demand.

        Raises:
            UserError: one failed.
        """
        settings = self._context.settings
        while self._queue or self._attempts:
            while self._queue and len(self._attempts) < settings.at_once:
                self._start(*self._queue.popleft())
            time.sleep(settings.heartbeat_seconds / POLLS_PER_HEARTBEAT)
            for attempt in list(self._attempts):
                if outcome := attempt.watcher.poll():
                    self._finish(attempt, outcome)

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
        """Log each trial's instances, cost and memory to MLflow; close MLflow runs that an instance has left open."""
        log.info("All instances together cost about %.3f USD", sum(self._budget.usd.values()))
        try:
            client = connection.open_client()
            for run_id, seconds in self._budget.seconds.items():
                client.log_metric(run_id, "ec2_seconds", round(seconds, 1))
                client.log_metric(run_id, "ec2_cost_usd", round(self._budget.usd[run_id], 6))
                client.set_tag(run_id, "ct.instances", "; ".join(self._instance_descriptions[run_id]))
                client.log_batch(run_id, metrics=self._metrics[run_id])
                if run_id not in self._completed:
                    runs.fail_open_run(client, run_id)
        except Exception as error:
            log.warning("Cannot log the cost and the memory of the instances to MLflow: %s", error)

    def _start(self, trial: Trial, number: int, spot: bool) -> None:
        trial_key = f"runs/{trial.run_id}"
        request = LaunchRequest(
            attempt_key=f"{trial_key}/{number}",
            checkpoint_key=f"{trial_key}/checkpoint",
            task=self._build_task(trial),
            spot=spot,
            deadline_minutes=lambda price: self._budget.deadline_minutes(trial.run_id, price),
        )
        instance = launch.launch_instance(self._aws, self._context, request, self._instance_ids)
        self._instance_descriptions[trial.run_id].append(f"{instance.id}, {instance.option}")
        folder = storage.AttemptFolder(self._aws, self._context.account.bucket, request.attempt_key)
        label = self._labels.get(trial.run_id, "")
        watcher = AttemptWatcher(self._aws, self._context.settings, instance, folder, label)
        self._attempts.append(Attempt(trial, number, spot, watcher))

    def _finish(self, attempt: Attempt, outcome: Outcome) -> None:
        self._record_usage(attempt, outcome)
        if outcome.kind == "done":
            self._completed.add(attempt.trial.run_id)
        elif outcome.kind == "interrupted" and attempt.spot:
            log.info("%s: training again, on demand", outcome.message)
            self._queue.appendleft((attempt.trial, attempt.number + 1, False))
        else:
            log.error("The last lines of its log:\n%s", "\n".join(attempt.watcher.tail()))
            raise UserError(outcome.message)
        instance_id = attempt.watcher.instance.id
        termination.terminate_instances(self._aws, [instance_id])
        self._instance_ids.remove(instance_id)
        self._attempts.remove(attempt)
        self._charge(attempt)

    def _record_usage(self, attempt: Attempt, outcome: Outcome) -> None:
        from mlflow.entities import Metric

        instance, usage = attempt.watcher.instance, attempt.watcher.usage
        metrics = self._metrics[attempt.trial.run_id]
        metrics += usage.metrics()
        if outcome.peak_memory_mb:
            metrics.append(Metric(PEAK_MEMORY, outcome.peak_memory_mb, int(time.time() * 1000), 0))
        if usage.gpu_is_idle:
            kind = instance.option.instance_type
            log.warning("The GPU of %s was never in use: a type without one costs less", kind)

    def _charge(self, attempt: Attempt) -> None:
        instance = attempt.watcher.instance
        self._budget.charge(attempt.trial.run_id, instance.age_seconds, instance.price)
