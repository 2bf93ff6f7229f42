"""Groovy values as Python values: their type names, their truth, and their text in a GString."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jenkinsfile.errors import PipelineError

Value = Any  # null is None; strings, booleans, numbers, lists, maps; the scope may add others


class EvaluationError(PipelineError):
    """An expression with a valid syntax has no value: an unknown name, a missing method, an operand of a wrong type."""


def is_true(value: Value) -> bool:
    """Return Groovy's truth of a value: null, false, 0 and anything empty are false."""
    return bool(value)


def to_string(value: Value) -> str:
    """Return a value as text, as a GString does."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case list():
            return f"[{', '.join(map(to_string, value))}]"
        case Mapping():
            return f"[{', '.join(f'{key}:{to_string(item)}' for key, item in value.items()) or ':'}]"
    return str(value)


def type_name(value: Value) -> str:
    """Return the name of a value's type for messages."""
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


def get_property(value: Value, name: str) -> Value:
    """Return `value.name`: null if a map has no such key."""
    if isinstance(value, Mapping):
        return value.get(name)
    raise EvaluationError(f"{type_name(value)} has no property '{name}'")
