"""Watching one attempt: its log goes to the console, and what becomes of it is one of a few clear ends."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from continuous_training.compute.ec2.aws import Aws, code, saying
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from continuous_training.compute.ec2.launch import Machine
    from continuous_training.compute.ec2.storage import Folder, Result
    from continuous_training.settings import Compute

log = logging.getLogger(__name__)

LAST = 50  # lines of the log that a failure is told with
MISSED = 10  # heartbeats: so many in a row, and nobody is there
PATIENCE = 300  # seconds without an answer of AWS's
GRACE = 120  # seconds that an instance may outlive its deadline before it is ended from here
EVENTUALLY = 120  # seconds in which EC2 may not know yet what it has launched
TOLD_EVERY = 60  # seconds between two progress lines of the same state


@dataclass(frozen=True)
class End:
    """What became of an attempt: `said` is a sentence for people."""

    kind: Literal["done", "failed", "interrupted", "deadline", "silent", "ended from outside", "no result"]
    message: str


class Watched:
    """An attempt that is under way. `label` is in front of each line of its log, where there are several."""

    def __init__(self, aws: Aws, compute: Compute, machine: Machine, folder: Folder, label: str = "") -> None:
        self._aws, self._given, self._folder, self._label = aws, compute, folder, label
        self.machine = machine
        self._tail: deque[str] = deque(maxlen=LAST)
        self._rest = b""
        self._beat: str | None = None
        self._beat_at = time.monotonic()
        self._shown_at = -float(TOLD_EVERY)
        self._unanswered_since: float | None = None
        self._step = "pending"

    def look(self) -> End | None:
        """Show what is new; return what became of the attempt, if it has ended.

        Raises:
            UserError: AWS has not told for five minutes; a training is not given up for less.
        """
        try:
            ended = self._look()
        except UserError as problem:
            self._unanswered_since = self._unanswered_since or time.monotonic()
            if time.monotonic() - self._unanswered_since > PATIENCE:
                raise
            log.warning("%s%s", self._label, problem)
            return None
        self._unanswered_since = None
        return ended

    def last(self) -> list[str]:
        """Return the last lines of its log; of the console, as far as EC2 has it, if nothing came by S3."""
        if self._tail or self._rest:
            return [*self._tail, self._rest.decode(errors="replace")][-LAST:]
        try:
            with saying(f"show the console of {self.machine.id}"):
                found = str(self._aws.ec2.get_console_output(InstanceId=self.machine.id, Latest=True).get("Output", ""))
        except UserError as problem:  # which must not hide why it is asked
            return [str(problem)]
        return found.splitlines()[-LAST:]

    def _look(self) -> End | None:
        state, reason = self._state()  # before the result: what ended has said all that it ever will
        self._hear()
        if result := self._folder.result():
            self._hear()
            return self._of(result)
        if state not in {"pending", "running"}:
            return self._ended(reason)
        return self._overdue()

    def _hear(self) -> None:
        beat = self._folder.heartbeat()
        *lines, self._rest = (self._rest + self._folder.grown()).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            self._tail.append(text)
            log.info("%s%s", self._label, text)
        if beat is None or beat == self._beat:
            return
        self._beat, self._beat_at = beat, time.monotonic()
        step = beat.rpartition(" ")[0]
        if step != self._step or self._beat_at - self._shown_at >= TOLD_EVERY:
            self._step, self._shown_at = step, self._beat_at
            minutes, seconds = divmod(int(self.machine.seconds), 60)
            spent = f"{minutes} min {seconds} s, about {self.machine.usd:.3f} USD"
            log.info("%s%s: %s, %s", self._label, self.machine.id, step, spent)

    def _state(self) -> tuple[str, str]:
        """Return the instance's state and the code of its reason."""
        from botocore.exceptions import ClientError

        with saying(f"describe {self.machine.id}"):
            try:
                found = self._aws.ec2.describe_instances(InstanceIds=[self.machine.id])
            except ClientError as error:
                if code(error) != "InvalidInstanceID.NotFound":
                    raise
                return ("pending" if self.machine.seconds < EVENTUALLY else "gone"), ""
        instance: dict[str, Any] = found["Reservations"][0]["Instances"][0]
        return instance["State"]["Name"], instance.get("StateReason", {}).get("Code", "")

    def _of(self, result: Result) -> End:
        if result.outcome == "done":
            return End("done", f"{self.machine.id} is done")
        if result.outcome == "interrupted":
            return End("interrupted", f"AWS takes the spot instance {self.machine.id} back")
        if result.outcome == "deadline":
            return End("deadline", f"{self.machine.id} reached its deadline of {self.machine.minutes} minutes")
        return End("failed", f"{result.step} failed on {self.machine.id} with exit code {result.code}")

    def _ended(self, reason: str) -> End:
        machine, step = self.machine, self._step
        if reason in {"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"}:
            return End("interrupted", f"AWS took the spot instance {machine.id} back, {step}")
        if reason == "Client.InstanceInitiatedShutdown":
            if machine.seconds >= machine.minutes * 60:
                return End("deadline", f"{machine.id} reached its deadline of {machine.minutes} minutes")
            return End("no result", f"{machine.id} ended itself, {step}, and left no result in S3")
        who = "AWS" if reason.startswith("Server.") or reason == "Client.InternalError" else "somebody"
        return End("ended from outside", f"{who} ended {machine.id}, {step} ({reason or 'no reason is given'})")

    def _overdue(self) -> End | None:
        now = time.monotonic()
        if self.machine.seconds > self.machine.minutes * 60 + GRACE:
            return End("deadline", f"{self.machine.id} outlived its deadline of {self.machine.minutes} minutes")
        if self._beat is None:
            allowed, what = self._given.boot_minutes * 60, "no heartbeat since it was launched"
        else:
            allowed, what = MISSED * self._given.heartbeat_seconds, "no heartbeat any more"
        if now - self._beat_at <= allowed:
            return None
        return End("silent", f"{self.machine.id}: {what} for {now - self._beat_at:.0f} s")
