"""A look: one comparison with a champion, in the series of those that share an error rate."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from continuous_training.documents.values import Value


class Look(Value):
    """A comparison of a candidate with a champion.

    Attributes:
        fingerprint: the candidate's.
        champion: the number of the champion's version.
        newest: the time of the newest fresh row.
        until: the end of the window of the fresh rows.
        days: the length of the window of the fresh rows.
        number: of the look among those within the period that shares an error rate, from 1.
        spent: the share of the period's error rate that this look uses.
        left: the share that is left to later looks.
        metric: the scorer that decides.
        standard_error: of the difference of the two models in the metric; None until it is computed.
    """

    fingerprint: str
    champion: str
    newest: datetime
    until: datetime
    days: float = Field(gt=0)
    number: int = Field(ge=1)
    spent: float = Field(gt=0, le=1)
    left: float = Field(ge=0, le=1)
    metric: str
    standard_error: float | None = Field(default=None, ge=0)
