"""What is registered, in production, or rolled back."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from continuous_training.documents.document import Document
from continuous_training.documents.holds import END, Hold
from continuous_training.documents.values import Value
from continuous_training.formatting import format_percent


class Registration(Document):
    """Register: the model version made from the candidate, and whether Deploy promotes it.

    It does not with PROMOTE=never, nor while the model is on hold, unless a person has decided otherwise in this run.
    """

    stem: ClassVar[str] = "registration"
    command: ClassVar[str] = "register"

    name: str
    model_version: str
    decision: Literal["promote", "hold"]
    hold: Hold | None = None

    @property
    def hold_message(self) -> str | None:
        """What the model's hold means for the version; None if the model is not on hold."""
        if self.hold is None:
            return None
        hold = self.hold.describe(self.name)
        if self.decision == "hold":
            return f"version {self.model_version} is not promoted: {hold}; {END}"
        return f"version {self.model_version} is promoted because a person decides so, although {hold}"


class Deployment(Document):
    """Deploy: the version in production, the version before it, and the traffic observed during the rollout.

    `shadow` and `canary` are observed while the version runs beside the champion, if training.yaml asks for it and
    there is a champion; `watch` covers its first seconds as champion. All numbers are totals over all servers.
    `hold` is the model's hold, which does not keep a person from promoting.
    """

    class Observation(Value):
        """The traffic of a version in one role: requests, error share, and the 99th percentile of latency.

        `agreement` is the share of compared rows on which the version and the champion agree. A value is None if there
        were too few requests or rows.
        """

        requests: int = Field(ge=0)
        error_share: float | None
        milliseconds: float | None
        rows: int = Field(default=0, ge=0)
        agreement: float | None = None

        @property
        def summary(self) -> str:
            """The observation as one line."""
            if self.error_share is None or self.milliseconds is None:
                message = f"{self.requests:,} requests, too few to evaluate"
            else:
                errors, latency = format_percent(self.error_share), f"99% within {self.milliseconds:.3g} ms"
                message = f"{self.requests:,} requests, {errors} failed, {latency}"
            if self.agreement is not None:
                share = format_percent(self.agreement)
                return f"{message}; it agrees with the champion on {share} of {self.rows:,} rows"
            return f"{message}; {self.rows:,} rows compared, too few to evaluate" if self.rows else message

    stem: ClassVar[str] = "deployment"
    command: ClassVar[str] = "deploy"

    name: str
    model_version: str
    previous_version: str | None
    servers: list[str]
    golden_predictions: int
    shadow: Observation | None = None
    canary: Observation | None = None
    watch: Observation | None = None
    hold: Hold | None = None

    @property
    def hold_message(self) -> str | None:
        """Why the version is champion in spite of the model's hold; None if the model is not on hold."""
        return f"A person has decided so, although {self.hold.describe(self.name)}" if self.hold else None


class Rollback(Document):
    """Roll back: the version in production again, the version rolled back, the reason, and the model's hold."""

    stem: ClassVar[str] = "rollback"
    command: ClassVar[str] = "rollback"

    name: str
    model_version: str
    rolled_back_version: str
    reason: str
    servers: list[str]
    hold: Hold | None = None

    @property
    def hold_message(self) -> str:
        """Whether later runs promote, and how this ends."""
        if self.hold:
            return f"{self.hold.describe(self.name)}; {END}"
        return f"{self.name} is not on hold: the next run may promote a similar version"
