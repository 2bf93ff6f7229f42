"""What is registered, in production, or rolled back."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from continuous_training.documents.document import Document
from continuous_training.documents.values import Value
from continuous_training.formatting import format_percent


class Registration(Document):
    """Register: the model version made from the candidate."""

    stem: ClassVar[str] = "registration"
    command: ClassVar[str] = "register"

    name: str
    model_version: str


class Deployment(Document):
    """Deploy: the version in production, the version before it, and the traffic observed during the rollout.

    `shadow` and `canary` are observed while the version runs beside the champion, if training.yaml asks for it and
    there is a champion; `watch` covers its first seconds as champion. All numbers are totals over all servers.
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


class Rollback(Document):
    """Roll back: the version in production again, the version rolled back, and the reason."""

    stem: ClassVar[str] = "rollback"
    command: ClassVar[str] = "rollback"

    name: str
    model_version: str
    rolled_back_version: str
    reason: str
    servers: list[str]
