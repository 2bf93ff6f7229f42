"""The monitor's state between checks, in a tag of the version: the columns' hysteresis and the ping's cool-down."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from pydantic import AliasChoices, Field

from continuous_training.registry.version_state import VersionState

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Monitor

TAG = "ct.monitor"
MAX_LENGTH = 4000  # characters of the tag for the columns' names


class MonitorState(VersionState):
    """The state of one version.

    `consecutive` counts, for each column, the consecutive checks in which it exceeded its limit. `pinged_at`, `message`
    and `evidence` are the time of the last ping, the decision's message and the URL of the check.
    """

    tag: ClassVar[str] = TAG

    consecutive: dict[str, int] = Field(default_factory=dict, validation_alias=AliasChoices("consecutive", "over"))
    pinged_at: datetime | None = Field(default=None, validation_alias=AliasChoices("pinged_at", "pinged"))
    message: str | None = Field(default=None, validation_alias=AliasChoices("message", "said"))
    evidence: str | None = None

    def write(self, client: MlflowClient, version: Version) -> None:
        """Write the state to the version's tag; columns that do not fit into a tag are dropped, the last ones first."""
        consecutive = dict(self.consecutive)
        while len(str(consecutive)) > MAX_LENGTH:
            consecutive.popitem()
        super(MonitorState, self.model_copy(update={"consecutive": consecutive})).write(client, version)

    def update(self, ratios: dict[str, float], limits: Monitor) -> MonitorState:
        """Return the state after a check.

        Args:
            ratios: the distance of each measured column divided by its limit. Other columns keep their state.
            limits: the section `monitor` of training.yaml.
        """
        consecutive = {name: count for name, count in self.consecutive.items() if name not in ratios}
        for name, ratio in ratios.items():
            before = self.consecutive.get(name, 0)
            if ratio >= 1:
                consecutive[name] = min(before + 1, limits.confirmations)
            elif before >= limits.confirmations and ratio >= limits.leave:
                consecutive[name] = before
        return self.model_copy(update={"consecutive": consecutive})

    def drifted(self, limits: Monitor) -> set[str]:
        """Return the names that count as drifted."""
        return {name for name, count in self.consecutive.items() if count >= limits.confirmations}

    def cool_down_end(self, limits: Monitor) -> datetime | None:
        """Return when the next training may be requested; None if none was requested yet."""
        return None if self.pinged_at is None else self.pinged_at + timedelta(hours=limits.cool_down_hours)
