"""Numbers, times and lists, as people read them."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


def number(value: float, *, signed: bool = False) -> str:
    """Write a number with as many digits as tell something."""
    if not value:
        return "0"
    decimals = next((places for limit, places in ((1000, 0), (100, 1), (10, 2)) if abs(value) >= limit), 4)
    style = f",.{decimals}f" if abs(value) >= 10**-decimals else ".1e"
    return f"{value:{'+' if signed else ''}{style}}".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Write how long something took."""
    if seconds < 60:
        return f"{seconds:.{1 if seconds >= 1 else 2}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def day(at: datetime) -> str:
    """Write a date, with its time unless that is midnight."""
    time = f", {at:%H:%M}" if at.hour or at.minute else ""
    return f"{at.day} {at:%B %Y}{time}"


def moment(at: datetime) -> str:
    """Write a date and a time in UTC."""
    at = at.astimezone(UTC) if at.tzinfo else at
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def counted(count: int, noun: str) -> str:
    """Write how many there are of something."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Write some names in a row."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
