"""An acceptance: a person's word that a candidate may change the form of what it predicts or is asked."""

from __future__ import annotations

from continuous_training.documents.values import Line, Value


class Acceptance(Value):
    """An acceptance: why, and by whom if that is known."""

    reason: Line
    by: Line | None

    def describe(self) -> str:
        """Return the acceptance as a clause, as in 'accepted by ada because the shop sells to France now'."""
        return f"accepted{f' by {self.by}' if self.by else ''} because {self.reason}"
