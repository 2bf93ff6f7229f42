"""A hold: a person's word that no run promotes a version of a model by itself, until it is released or ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar

from pydantic import AfterValidator, AwareDatetime

from continuous_training.documents.document import Document
from continuous_training.documents.values import Line, Value
from continuous_training.formatting import format_time

END = "scripts/ct release ends this"


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is out of range") from None


Moment = Annotated[AwareDatetime, AfterValidator(_to_utc)]


class Hold(Value):
    """A hold: why, by whom if that is known, since when, and until when; without an end it lasts until its release."""

    reason: Line
    by: Line | None
    since: Moment
    until: Moment | None

    @property
    def is_active(self) -> bool:
        """Whether the hold has not ended by itself."""
        return self.until is None or datetime.now(UTC) < self.until

    def describe(self, model: str) -> str:
        """Return the hold of a model as a clause, as in 'toy is on hold since … because …'."""
        by = f" (by {self.by})" if self.by else ""
        until = f" until {format_time(self.until)}" if self.until else ""
        return f"{model} is on hold since {format_time(self.since)}{by}{until} because {self.reason}"


class HoldStatus(Document):
    """Hold and Release: the model's hold after the command, and the one before it."""

    stem: ClassVar[str] = "hold"
    command: ClassVar[str] = "hold"

    name: str
    hold: Hold | None
    before: Hold | None

    @property
    def message(self) -> str:
        """The change as one line."""
        if self.hold:
            instead = f"; this replaces a hold because {self.before.reason}" if self.before else ""
            return f"{self.hold.describe(self.name)}; {END}{instead}"
        if self.before:
            return f"{self.name} is released ({self.before.reason}): the next run promotes a better version"
        return f"{self.name} is not on hold, so there is nothing to release"
