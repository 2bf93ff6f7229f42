"""Calendar months, each represented by its first moment."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from continuous_training.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MONTH_FORMAT = "%Y-%m"


def parse_month(text: str, option: str) -> datetime:
    """Return the first moment of a month such as 2013-04.

    Raises:
        UsageError: the value of this option is not a month.
    """
    if re.fullmatch(r"\d{4}-\d{2}", text):
        try:
            return datetime.strptime(text, MONTH_FORMAT)
        except ValueError:
            pass  # such as a thirteenth month
    raise UsageError(f"{option} {text} is not a month: write it as 2013-04")


def next_month(month: datetime) -> datetime:
    """Return the first moment of the next month."""
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def month_range(first: datetime, last: datetime) -> Iterator[datetime]:
    """Yield the first moments of all months from the first to the last, both included."""
    while first <= last:
        yield first
        first = next_month(first)
