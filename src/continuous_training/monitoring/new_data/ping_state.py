"""What Jenkins was asked for because of new data: remembered of the champion, so that the same rows are one ping."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from continuous_training.jenkins import ping
from continuous_training.registry import model_versions, promotion
from continuous_training.registry.version_state import VersionState
from continuous_training.reports.formatting import format_time

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.jenkins.ping import Ping, PingResult
    from continuous_training.monitoring.new_data.news import News
    from continuous_training.registry.model_versions import Version

CLAIM = timedelta(minutes=2)  # longer than it takes to give a Jenkins up


class Asked(VersionState):
    """When a training was asked for, and how many rows were news then, and which.

    From `claimed` on a check is at it. If it was killed, that is no hindrance for long.
    """

    tag: ClassVar[str] = "ct.data"

    at: datetime | None = None
    rows: int = 0
    newest: datetime | None = None
    digest: str | None = None
    claimed: datetime | None = None

    def hinders(self, digest: str, now: datetime) -> str | None:
        """Say why nobody should be asked for these rows now."""
        if self.at and self.digest == digest:
            return f"a training on these rows was asked for on {format_time(self.at)}"
        if self.claimed and now < self.claimed + CLAIM:
            return "another check is asking for one right now"
        return None


def ask(client: MlflowClient, champion: Version, message: Ping, new_data: News, jenkins: str) -> PingResult:
    """Ask Jenkins for a training, unless another check does or did; only what was delivered is remembered.

    A claim is made in a turn, which one process at a time can have. The turn ends before Jenkins is asked: a promotion
    that waits for one should not wait for him.
    """
    claimed = datetime.now(UTC)

    def claim(_: Version) -> str | None:
        name = os.environ.get("BUILD_TAG") or f"by-hand-{claimed.timestamp():.0f}"
        with promotion.lock(client, champion.name, name, "asking for a training"):
            known = _known(client, champion)
            message = known.hinders(new_data.digest, claimed)
            if message is None and jenkins != ping.NO_JENKINS:
                known.model_copy(update={"claimed": claimed}).write(client, champion)
        return message

    asking = ping.trigger_training(client, champion, message, jenkins, claim)
    if asking.jobs:
        Asked(at=claimed, rows=new_data.rows, newest=new_data.newest, digest=new_data.digest).write(client, champion)
    elif asking.error:
        _known(client, champion).model_copy(update={"claimed": None}).write(client, champion)
    return asking


def _known(client: MlflowClient, champion: Version) -> Asked:
    """Read what is remembered as it is now."""
    return Asked.of(model_versions.by_number(client, champion.name, champion.number) or champion)
