"""What the monitor remembers of a version.

A column that hovers at its limit does not change sides at every look, and a version has one training asked for in a
cool-down.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from continuous_training.registry.version_state import VersionState

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Monitor

TAG = "ct.monitor"
ROOM = 4000  # characters of a tag for the names of what has moved


class State(VersionState):
    """What is remembered of a version: how often in a row each has been over its limit, and the last ping.

    Of the ping that is when and why a training was asked for, in the words of the decision, and where its evidence is.
    """

    tag: ClassVar[str] = TAG

    over: dict[str, int] = Field(default_factory=dict)
    pinged: datetime | None = None
    message: str | None = None
    evidence: str | None = None

    def write(self, client: MlflowClient, version: Version) -> None:
        """Write it to the version; of more columns than a tag holds, the last ones are forgotten."""
        over = dict(self.over)
        while len(str(over)) > ROOM:
            over.popitem()
        super(State, self.model_copy(update={"over": over})).write(client, version)

    def after(self, ratios: dict[str, float], limits: Monitor) -> State:
        """Return what is remembered after another look, of which these are the distances in parts of their limits.

        What was not measured this time stays as it was.
        """
        over = {name: times for name, times in self.over.items() if name not in ratios}
        for name, ratio in ratios.items():
            before = self.over.get(name, 0)
            if ratio >= 1:
                over[name] = min(before + 1, limits.confirmations)
            elif before >= limits.confirmations and ratio >= limits.leave:
                over[name] = before
        return self.model_copy(update={"over": over})

    def moved(self, limits: Monitor) -> set[str]:
        """Return what counts as moved."""
        return {name for name, times in self.over.items() if times >= limits.confirmations}

    def rests_until(self, limits: Monitor) -> datetime | None:
        """Return when the next training may be asked for."""
        return None if self.pinged is None else self.pinged + timedelta(hours=limits.cool_down_hours)
