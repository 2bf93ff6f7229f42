"""The binary operators of Groovy, on `values`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping

from jenkinsfile.expressions.values import EvaluationError, Value, kind, text


def equal(left: Value, right: Value) -> bool:
    """Compare as Groovy does: a boolean equals no number, 1 equals 1.0."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def plus(left: Value, right: Value) -> Value:
    """Add numbers, join lists and maps, and make strings of anything next to a string."""
    if isinstance(left, str) or isinstance(right, str):
        return text(left) + text(right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return {**left, **right}
    if isinstance(left, list):
        return left + (right if isinstance(right, list) else [right])
    return _calculated(operator.add, left, right)


def minus(left: Value, right: Value) -> Value:
    """Subtract numbers, remove a part from a string or items from a list."""
    if isinstance(left, str):
        return left.replace(text(right), "", 1)
    if isinstance(left, list):
        return [item for item in left if item not in (right if isinstance(right, list) else [right])]
    return _calculated(operator.sub, left, right)


def contained(left: Value, right: Value) -> bool:
    """Tell whether a list has an item, or a map a key."""
    if isinstance(right, (list, Mapping)):
        return any(equal(left, item) for item in right)
    return equal(left, right)


def matches(left: Value, right: Value) -> bool:
    """Tell whether the whole of a text is what a pattern describes."""
    try:
        return re.fullmatch(text(right), text(left)) is not None
    except re.error as error:
        raise EvaluationError(f"«{text(right)}» is no regular expression: {error}") from None


def _calculated(calculate: Callable[[Value, Value], Value], left: Value, right: Value) -> Value:
    if not (_is_number(left) and _is_number(right)):
        raise EvaluationError(f"cannot calculate with {kind(left)} and {kind(right)}")
    try:
        return calculate(left, right)
    except (ZeroDivisionError, OverflowError) as error:
        raise EvaluationError(f"cannot calculate: {error}") from None


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _calculation(calculate: Callable[[Value, Value], Value]) -> Callable[[Value, Value], Value]:
    return lambda left, right: _calculated(calculate, left, right)


def _comparison(compare: Callable[[Value, Value], bool]) -> Callable[[Value, Value], bool]:
    def compared(left: Value, right: Value) -> bool:
        if left is None or right is None:  # null is less than anything else
            return compare(left is not None, right is not None)
        if (isinstance(left, str) and isinstance(right, str)) or (_is_number(left) and _is_number(right)):
            return compare(left, right)
        raise EvaluationError(f"cannot compare {kind(left)} with {kind(right)}")

    return compared


BY_RULE: dict[str, Callable[[Value, Value], Value]] = {
    "equal": equal,
    "unequal": lambda left, right: not equal(left, right),
    "matches": matches,
    "less": _comparison(operator.lt),
    "at_most": _comparison(operator.le),
    "greater": _comparison(operator.gt),
    "at_least": _comparison(operator.ge),
    "contained": contained,
    "plus": plus,
    "minus": minus,
    "times": _calculation(operator.mul),
    "divided": _calculation(lambda left, right: left // right if left % right == 0 else left / right),
    "modulo": _calculation(lambda left, right: left - right * int(left / right)),
}
