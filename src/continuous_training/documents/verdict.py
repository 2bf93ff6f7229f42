"""The verdict, with the metrics and rules behind it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from continuous_training.documents.acceptance import Acceptance
from continuous_training.documents.document import Document
from continuous_training.documents.inspection import Confusion, Curve, Importance
from continuous_training.documents.looks import Look
from continuous_training.documents.values import Value
from continuous_training.formatting import format_confidence
from continuous_training.formatting.scorers import format_score, is_error, plain_name

CHAMPION_OPENS = "the champion can be opened"  # the rule that fails if it cannot; it is listed only then


class Rule(Value):
    """One rule of the comparison: the value, its limit, and whether it passes.

    A rule of `form` says nothing of a model's quality, so that a person can accept that it fails. One that is not
    `judged` has too little to judge by, and keeps no candidate from production.
    """

    name: str
    passed: bool
    value: float | None
    limit: float | None
    message: str
    form: bool = False
    accepted: bool = False
    judged: bool = True

    @property
    def rejects(self) -> bool:
        """Whether the rule keeps the candidate from production."""
        return not (self.passed or self.accepted)

    @property
    def mark(self) -> str:
        """A sign for the console: passed, accepted, failed or not judged."""
        if not self.judged:
            return "?"
        return "✓" if self.passed else "≈" if self.accepted else "✗"


class Metric(Value):
    """One scorer of both models on the fresh rows; higher is better. `scorers` has the natural sign of errors.

    The deciding metric has a confidence interval of the difference, candidate minus champion, the margin that the
    interval must clear, and the standard error of the difference.
    """

    name: str
    candidate: float
    champion: float | None
    difference: tuple[float, float] | None = None
    margin: float | None = None
    standard_error: float | None = None


class Verdict(Document):
    """Compare: `promote` or `reject`, with every number behind the decision.

    `confidence` is that of the intervals, and `look` what makes it higher than the configured one: other comparisons
    share the error rate. Without a champion to compare with there is no look.

    `judged_twin` says that the champion is a refit, and that its numbers are those of the model that was judged before,
    which was held back from the newest rows as the candidate is.

    `acceptance` is there if a rule fails and a person has accepted that.

    `targets` has the deciding metric for each of several targets on its own. It decides nothing, nor do `curves`,
    `confusion` and `importance`: the report shows them.
    """

    stem: ClassVar[str] = "verdict"
    command: ClassVar[str] = "compare"

    decision: Literal["promote", "reject"]
    message: str
    champion: str | None
    judged_twin: bool = False
    fresh_rows: int
    confidence: float
    metrics: list[Metric]
    targets: dict[str, Metric] = Field(default_factory=dict)
    rules: list[Rule]
    look: Look | None = None
    acceptance: Acceptance | None = None
    curves: list[Curve]
    confusion: list[Confusion] = Field(default_factory=list)
    importance: Importance | None = None

    @property
    def lost_champion(self) -> str | None:
        """Why the champion cannot be compared with, and the command that ends this; None if it can."""
        return next((rule.message for rule in self.rules if rule.name == CHAMPION_OPENS and rule.rejects), None)

    @property
    def look_message(self) -> str | None:
        """What repeated looks mean for the confidence; None if the comparison has the whole error rate."""
        if self.look is None or self.look.number == 1:
            return None
        return (
            f"This is comparison {self.look.number} on nearly the same rows: the intervals have "
            f"{format_confidence(self.confidence)} confidence, so that all together err as seldom as one"
        )

    @property
    def summary(self) -> str:
        """The verdict as text for the approver and the console, one line per number."""
        lines = [f"Verdict: {self.decision}"]
        metrics = [(plain_name(metric.name), metric) for metric in self.metrics]
        metrics[1:1] = [(f"  of {target}", metric) for target, metric in self.targets.items()]
        width = max(20, *(len(name) for name, _ in metrics)) if metrics else 0
        for name, metric in metrics:
            line = f"{name:<{width}} candidate {format_score(metric.candidate, metric.name)}"
            if metric.champion is not None:
                line += f"   champion {format_score(metric.champion, metric.name)}"
            lines.append(line + ("   lower is better" if is_error(metric.name) else ""))
        if self.judged_twin:
            lines.append(
                f"The champion's numbers are those of the judged model of version {self.champion}, not its refit's"
            )
        lines += [self.look_message] if self.look_message else []
        lines += self.importance.sentences if self.importance else []
        lines += [f"{rule.mark} {rule.message}" for rule in self.rules]
        return "\n".join(lines)
