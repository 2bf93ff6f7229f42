"""The state of the data ping, stored in a tag of the champion: the same rows are one ping."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from pydantic import AliasChoices, Field

from continuous_training.formatting import format_time
from continuous_training.jenkins import ping
from continuous_training.registry import model_versions, promotion
from continuous_training.registry.version_state import VersionState

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.jenkins.ping import Ping, PingResult
    from continuous_training.monitoring.new_data.changes import DataChanges
    from continuous_training.registry.model_versions import Version

CLAIM_TIMEOUT = timedelta(minutes=2)  # longer than all attempts to reach Jenkins take


class PingState(VersionState):
    """When the last ping was delivered, and the changes that it was about.

    `claimed_at` is set while a check sends a ping. The claim of a killed check expires.
    """

    tag: ClassVar[str] = "ct.data"

    sent_at: datetime | None = Field(default=None, validation_alias=AliasChoices("sent_at", "at"))
    rows: int = 0
    newest: datetime | None = None
    digest: str | None = None
    claimed_at: datetime | None = Field(default=None, validation_alias=AliasChoices("claimed_at", "claimed"))

    def reason_to_withhold(self, digest: str, now: datetime) -> str | None:
        """Return why no ping should be sent for these changes now, or None if one should."""
        if self.sent_at and self.digest == digest:
            return f"a training on these rows was requested on {format_time(self.sent_at)}"
        if self.claimed_at and now < self.claimed_at + CLAIM_TIMEOUT:
            return "another check is sending a ping right now"
        return None


def request_training(
    client: MlflowClient, champion: Version, message: Ping, changes: DataChanges, jenkins: str
) -> PingResult:
    """Ping Jenkins unless another check sends or sent a ping for these changes; only a delivered ping is stored.

    The claim is made under the model's lock. The lock is released before Jenkins is called, because a promotion may
    wait for it.
    """
    claimed_at = datetime.now(UTC)

    def claim(_: Version) -> str | None:
        name = os.environ.get("BUILD_TAG") or f"by-hand-{claimed_at.timestamp():.0f}"
        with promotion.lock(client, champion.name, name, "requesting a training"):
            state = _read_state(client, champion)
            reason = state.reason_to_withhold(changes.digest, claimed_at)
            if reason is None and jenkins != ping.NO_JENKINS:
                state.model_copy(update={"claimed_at": claimed_at}).write(client, champion)
        return reason

    outcome = ping.trigger_training(client, champion, message, jenkins, claim)
    if outcome.jobs:
        sent = PingState(sent_at=claimed_at, rows=changes.rows, newest=changes.newest, digest=changes.digest)
        sent.write(client, champion)
    elif outcome.error:
        _read_state(client, champion).model_copy(update={"claimed_at": None}).write(client, champion)
    return outcome


def _read_state(client: MlflowClient, champion: Version) -> PingState:
    """Return the stored state, which another check may have changed since the version was read."""
    return PingState.of(model_versions.by_number(client, champion.name, champion.number) or champion)
