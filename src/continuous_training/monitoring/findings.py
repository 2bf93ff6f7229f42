"""What an examination finds, as values that travel in its document."""

from __future__ import annotations

from typing import Literal

from continuous_training.documents import Value
from continuous_training.monitoring.distances import Test


class Finding(Value):
    """Something that a person should know: `kind` tells one from another, `column` is whose it is.

    A `fault` keeps the monitor from its work; `odd` is wrong with what the champion is asked; a `note` is neither.
    """

    kind: Literal["fault", "odd", "note"]
    message: str
    column: str | None = None


class Drift(Value):
    """How far a column, or the predictions, lie from what was learnt, and how far they may."""

    name: str
    test: Test
    distance: float
    limit: float
    null_share: float
    learnt_null_share: float
    moved: bool = False

    @property
    def ratio(self) -> float:
        """The distance in parts of its limit."""
        return self.distance / self.limit
