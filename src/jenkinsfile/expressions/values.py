"""Groovy's values as Python's: what they are called, when they are true, and how they read in a GString."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jenkinsfile.errors import PipelineError

Value = Any  # null is None; strings, booleans, numbers, lists and maps are Python's; anything else is the scope's


class EvaluationError(PipelineError):
    """An expression that reads well has no value: an unknown name, a missing method, the wrong kind of operand."""


def truth(value: Value) -> bool:
    """Groovy's truth: null, false, 0 and whatever is empty are false."""
    return bool(value)


def text(value: Value) -> str:
    """Give the string that a GString makes of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case list():
            return f"[{', '.join(map(text, value))}]"
        case Mapping():
            return f"[{', '.join(f'{key}:{text(each)}' for key, each in value.items()) or ':'}]"
    return str(value)


def kind(value: Value) -> str:
    """Name a value's type in a message."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case Mapping():
            return "a map"
    return str(value)


def member_of(value: Value, name: str) -> Value:
    """Give `value.name`: null where a map has no such key."""
    if isinstance(value, Mapping):
        return value.get(name)
    raise EvaluationError(f"{kind(value)} has no property «{name}»")
