"""The refit of a better candidate: which of the two models is registered, and why."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from continuous_training.documents.document import Document
from continuous_training.documents.values import Value
from continuous_training.documents.verdict import Rule


class Recipe(Value):
    """How a model was fitted, beside what training.yaml says.

    Attributes:
        parameters: those that a grid or a search has found.
        steps: the number of boosting rounds or epochs of the model; None if its fit reported none.
    """

    parameters: dict[str, Any] = Field(default_factory=dict)
    steps: int | None = Field(default=None, ge=1)


class Refit(Document):
    """Refit: the model that is registered, the refit or the judged candidate itself, with every rule that decided so.

    All numbers of the verdict are of the judged candidate. Those of `rules` compare the refit with it, but for the gain
    of recent rows: this compares the candidate with an earlier fit.

    `run_id` is the refit's MLflow run, if there was one. `trained_until` is the end of the rows that the registered
    model was fitted on.
    """

    stem: ClassVar[str] = "refit"
    command: ClassVar[str] = "refit"

    decision: Literal["refit", "judged"]
    message: str
    model_uri: str
    trained_until: datetime
    run_id: str | None = None
    rules: list[Rule] = Field(default_factory=list)

    @property
    def summary(self) -> str:
        """The result as text for the approver and the console, one line per rule."""
        return "\n".join([f"Refit: {self.message}", *(f"{rule.mark} {rule.message}" for rule in self.rules)])
