"""Numbers, times and lists as text for people."""

from __future__ import annotations

import json
import math
from datetime import UTC
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


def format_number(value: float, *, signed: bool = False) -> str:
    """Format a number with its significant digits."""
    if not value:
        return "0"
    decimals = next((places for limit, places in ((1000, 0), (100, 1), (10, 2)) if abs(value) >= limit), 4)
    style = f",.{decimals}f" if abs(value) >= 10**-decimals else ".1e"
    return f"{value:{'+' if signed else ''}{style}}".replace("-", "\N{MINUS SIGN}")


def format_percent(share: float) -> str:
    """Format a share as a percentage."""
    return f"{100 * share:.3g}%"


def format_confidence(confidence: float) -> str:
    """Format a level of confidence as a percentage, with two digits of what it lacks of 1: 95% or 99.917%."""
    decimals = max(0, 1 - math.floor(math.log10(100 * (1 - confidence))))
    text = f"{100 * confidence:.{decimals}f}"
    return f"{text.rstrip('0').rstrip('.') if decimals else text}%"


def format_parameters(parameters: Mapping[str, Any]) -> str:
    """Format the parameters of a trial, as in 'C=0.1 max_iter=200', with four digits of a fraction."""
    values = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in parameters.items()}
    pairs = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in values.items())
    return " ".join(pairs) or "the parameters of training.yaml"


def format_duration(seconds: float) -> str:
    """Format a duration."""
    if seconds < 60:
        return f"{seconds:.{1 if seconds >= 1 else 2}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_day(at: datetime) -> str:
    """Format a date, with its time unless that is midnight."""
    time = f", {at:%H:%M}" if at.hour or at.minute else ""
    return f"{at.day} {at:%B %Y}{time}"


def format_time(at: datetime) -> str:
    """Format a date and a time in UTC."""
    at = at.astimezone(UTC) if at.tzinfo else at
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun in singular or plural."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def join_names(names: Sequence[str]) -> str:
    """Join names by commas and 'and'."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
