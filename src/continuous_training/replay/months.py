"""The months of a replay, and what is kept of each: what its run came to, and what its models were worth in it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from continuous_training.documents import Value
from continuous_training.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

PATTERN = "%Y-%m"


class Difference(Value):
    """How much better one model, or policy, is than another; without ends if the resamples could not tell them."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def found(self) -> Literal["better", "worse", "unsure", "equal"]:
        """On which side of zero the whole interval lies; equal if nothing differs at all."""
        if self.low is None or self.high is None:
            return "unsure"
        if self.low > 0:
            return "better"
        if self.high < 0:
            return "worse"
        return "unsure" if self.low or self.high or self.value else "equal"


class Model(Value):
    """A candidate: its MLflow run, and where its files are."""

    run_id: str
    uri: str


class Made(Value):
    """What a run came to: its candidate, if it made one, and the MLflow run of the champion after it.

    There is one each month, and whenever drift asks for one.
    """

    month: str
    decision: Literal["promoted", "rejected", "none"]
    message: str
    candidate: Model | None = None
    champion: str | None = None
    fresh: Difference | None = None
    log: str

    @property
    def begins(self) -> datetime:
        """The month's first moment."""
        return datetime.strptime(self.month, PATTERN)


class Judged(Value):
    """What models were worth in the month after they were made, by their MLflow runs.

    `scores` has every model made so far; `draws` the champion's score less that of others on each resample.
    """

    rows: int
    scores: dict[str, float]
    draws: dict[str, list[float | None]]


class Week(Value):
    """What the monitor said at the end of a week, and what the run came to that it asked for, if it did."""

    end: datetime
    verdict: str
    message: str
    made: Made | None = None


class OnDrift(Value):
    """A month under the policy that retrains on drift: its weeks, and what its models scored, each while it answered.

    `draws` are the gate's score less that on each resample.
    """

    weeks: list[Week]
    score: float
    draws: list[float | None]


class Month(Value):
    """A finished month; nothing is judged while there is no champion."""

    made: Made
    judged: Judged | None = None
    drifted: OnDrift | None = None

    @property
    def weeks(self) -> list[Week]:
        """The weeks of the policy that retrains on drift."""
        return self.drifted.weeks if self.drifted else []


def parse(text: str, option: str) -> datetime:
    """Read a month, such as 2013-04; returns its first moment.

    Raises:
        UsageError: it is none.
    """
    if re.fullmatch(r"\d{4}-\d{2}", text):
        try:
            return datetime.strptime(text, PATTERN)
        except ValueError:
            pass  # a thirteenth month
    raise UsageError(f"{option} {text} is not a month: write it as 2013-04")


def following(month: datetime) -> datetime:
    """Return the first moment of the month after."""
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def between(first: datetime, last: datetime) -> Iterator[datetime]:
    """Yield the first moments of all months from the first to the last."""
    while first <= last:
        yield first
        first = following(first)
