"""Watching one attempt: its log is printed, and how it ended is one of a few outcomes."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from continuous_training.compute.ec2.aws import Aws, error_code, translate_errors
from continuous_training.compute.ec2.usage import UsageLog
from continuous_training.compute.supervision import ADVICE
from continuous_training.errors import UserError
from continuous_training.fork_server.client import KILL_EXIT_CODE

if TYPE_CHECKING:
    from continuous_training.compute.ec2.launch import Instance
    from continuous_training.compute.ec2.storage import AttemptFolder, Result
    from continuous_training.settings import Compute

log = logging.getLogger(__name__)

TAIL_LINES = 50  # of the log, shown with a failure
MAX_MISSED_HEARTBEATS = 10  # in a row
MAX_UNAVAILABLE_SECONDS = 300  # without a response from AWS
SHUTDOWN_GRACE_SECONDS = 120  # after its deadline, before an instance is terminated from here
CONSISTENCY_SECONDS = 120  # in which EC2 may not find an instance that it has launched
LOG_SECONDS = 60  # between two progress lines of the same step
SPOT_REASONS = {"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"}


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. `message` is a sentence for people, `peak_memory_mb` the memory that the fit needed."""

    kind: Literal["done", "failed", "interrupted", "deadline", "silent", "terminated", "no result"]
    message: str
    peak_memory_mb: float | None = None


class AttemptWatcher:
    """Watches an attempt. `label` precedes each line of its log, to distinguish several attempts."""

    def __init__(self, aws: Aws, settings: Compute, instance: Instance, folder: AttemptFolder, label: str = "") -> None:
        self._aws, self._settings, self._folder, self._label = aws, settings, folder, label
        self.instance = instance
        self.usage = UsageLog()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._partial_line = b""
        self._heartbeat_time = time.monotonic()
        self._progress_time = -float(LOG_SECONDS)
        self._unavailable_since: float | None = None
        self._step = "pending"

    def poll(self) -> Outcome | None:
        """Print new log lines; return the outcome if the attempt has ended.

        Raises:
            UserError: AWS was unavailable for five minutes; a shorter interruption does not fail a training.
        """
        try:
            outcome = self._poll()
        except UserError as error:
            self._unavailable_since = self._unavailable_since or time.monotonic()
            if time.monotonic() - self._unavailable_since > MAX_UNAVAILABLE_SECONDS:
                raise
            log.warning("%s%s", self._label, error)
            return None
        self._unavailable_since = None
        return outcome

    def tail(self) -> list[str]:
        """Return the last lines of the log; of the console, as far as EC2 has it, if there is no log in S3."""
        if self._tail or self._partial_line:
            return [*self._tail, self._partial_line.decode(errors="replace")][-TAIL_LINES:]
        try:
            with translate_errors(f"read the console of {self.instance.id}"):
                response = self._aws.ec2.get_console_output(InstanceId=self.instance.id, Latest=True)
        except UserError as error:  # must not hide the failure that the console would explain
            return [str(error)]
        return str(response.get("Output", "")).splitlines()[-TAIL_LINES:]

    def _poll(self) -> Outcome | None:
        state, reason = self._describe_state()  # before the result: an instance that has ended writes nothing more
        self._read_progress()
        if result := self._folder.read_result():
            self._read_progress()
            return self._outcome_of_result(result)
        if state not in {"pending", "running"}:
            return self._outcome_of_termination(reason)
        return self._check_timeouts()

    def _read_progress(self) -> None:
        heartbeat = self._folder.read_heartbeat()
        *lines, self._partial_line = (self._partial_line + self._folder.read_new_log()).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            self._tail.append(text)
            log.info("%s%s", self._label, text)
        if heartbeat is None or heartbeat == self.usage.last:
            return
        self.usage.add(heartbeat)
        self._heartbeat_time = time.monotonic()
        if heartbeat.step != self._step or self._heartbeat_time - self._progress_time >= LOG_SECONDS:
            self._step, self._progress_time = heartbeat.step, self._heartbeat_time
            minutes, seconds = divmod(int(self.instance.age_seconds), 60)
            cost = f"{minutes} min {seconds} s, about {self.instance.cost_usd:.3f} USD"
            log.info("%s%s: %s, %s%s", self._label, self.instance.id, self._step, cost, heartbeat.describe_use())

    def _describe_state(self) -> tuple[str, str]:
        """Return the instance's state and the code of its reason."""
        from botocore.exceptions import ClientError

        with translate_errors(f"describe {self.instance.id}"):
            try:
                response = self._aws.ec2.describe_instances(InstanceIds=[self.instance.id])
            except ClientError as error:
                if error_code(error) != "InvalidInstanceID.NotFound":
                    raise
                return ("pending" if self.instance.age_seconds < CONSISTENCY_SECONDS else "not found"), ""
        description: dict[str, Any] = response["Reservations"][0]["Instances"][0]
        return description["State"]["Name"], description.get("StateReason", {}).get("Code", "")

    def _outcome_of_result(self, result: Result) -> Outcome:
        instance = self.instance
        peak_memory_mb = result.fit.peak_memory_mb if result.fit else None
        if result.outcome == "done":
            return Outcome("done", f"{instance.id} is done", peak_memory_mb)
        if result.outcome == "interrupted":
            return Outcome("interrupted", f"AWS interrupts the spot instance {instance.id}")
        if result.outcome == "deadline":
            return Outcome("deadline", f"{instance.id} reached its deadline of {instance.deadline_minutes} minutes")
        message = f"{result.step} failed on {instance.id}"
        if result.fit and result.fit.error:
            return Outcome("failed", f"{message}: {result.fit.error}", peak_memory_mb)
        if result.code == KILL_EXIT_CODE:
            return Outcome("failed", f"{message}, killed by signal 9, probably for lack of memory: {ADVICE}")
        return Outcome("failed", f"{message} with exit code {result.code}")

    def _outcome_of_termination(self, reason: str) -> Outcome:
        instance, step = self.instance, self._step
        if reason in SPOT_REASONS:
            return Outcome("interrupted", f"AWS interrupted the spot instance {instance.id} at the step '{step}'")
        if reason == "Client.InstanceInitiatedShutdown":
            if instance.age_seconds >= instance.deadline_minutes * 60:
                return Outcome("deadline", f"{instance.id} reached its deadline of {instance.deadline_minutes} minutes")
            return Outcome("no result", f"{instance.id} shut itself down at the step '{step}' without a result in S3")
        origin = "AWS" if reason.startswith("Server.") or reason == "Client.InternalError" else "a user"
        return Outcome(
            "terminated", f"{origin} terminated {instance.id} at the step '{step}' ({reason or 'AWS gives no reason'})"
        )

    def _check_timeouts(self) -> Outcome | None:
        instance, now = self.instance, time.monotonic()
        if instance.age_seconds > instance.deadline_minutes * 60 + SHUTDOWN_GRACE_SECONDS:
            message = f"{instance.id} still runs after its deadline of {instance.deadline_minutes} minutes"
            return Outcome("deadline", message)
        last = self.usage.last
        if last is None:
            limit, problem = self._settings.boot_minutes * 60, "no heartbeat since the launch"
        else:
            limit, problem = MAX_MISSED_HEARTBEATS * self._settings.heartbeat_seconds, "no more heartbeats"
        seconds = now - self._heartbeat_time
        if seconds <= limit:
            return None
        use = f"; at the last one {last.memory} of memory were in use" if last and last.memory else ""
        return Outcome("silent", f"{instance.id}: {problem} for {seconds:.0f} s{use}")
