"""The report of a check: build/monitor.json, and an artifact of the check's MLflow run."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AliasChoices, Field

from continuous_training.documents import BUILD, Value
from continuous_training.jenkins.ping import PingResult
from continuous_training.monitoring.decision import Decision
from continuous_training.monitoring.drift import ColumnDrift
from continuous_training.monitoring.findings import Finding
from continuous_training.monitoring.performance import MetricEstimate

DOCUMENT = BUILD / "monitor.json"
EVIDENTLY_REPORT = BUILD / "monitor" / "drift.html"  # a page with scripts
SIGNS = {"error": "✗", "warning": "!", "note": "·"}


class MonitorReport(Value):
    """What was checked, the findings and the decision.

    `baseline` is the metric at promotion and `current` the live metric, `ping_result` the outcome of the ping if one
    was due, `evidence` the URL of the check's MLflow run.
    """

    model: str
    model_version: str | None = None
    source: Literal["log", "warehouse"]
    at: datetime
    as_of: datetime
    since: datetime | None = None
    until: datetime | None = None
    rows: int = 0
    decision: Decision
    drifts: list[ColumnDrift] = Field(default_factory=list)
    baseline: MetricEstimate | None = Field(default=None, validation_alias=AliasChoices("baseline", "then"))
    current: MetricEstimate | None = Field(default=None, validation_alias=AliasChoices("current", "now"))
    findings: list[Finding] = Field(default_factory=list)
    ping_result: PingResult | None = Field(default=None, validation_alias=AliasChoices("ping_result", "asking"))
    evidence: str | None = None

    @property
    def errors(self) -> list[str]:
        """The messages of the parts that could not run."""
        return [finding.message for finding in self.findings if finding.kind == "error"]

    @property
    def summary(self) -> str:
        """The text for the console."""
        lines = [f"{self.decision.verdict}: {self.decision.message}"]
        lines += [f"{SIGNS[finding.kind]} {finding.message}" for finding in self.findings]
        if self.ping_result:
            lines.append(self.ping_result.summary)
        return "\n".join(lines)
