"""The binary operators of Groovy."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping

from jenkinsfile.expressions.values import EvaluationError, Value, to_string, type_name


def equal(left: Value, right: Value) -> bool:
    """Return whether two values are equal as in Groovy: 1 equals 1.0, and a boolean equals no number."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def add(left: Value, right: Value) -> Value:
    """Add numbers, join lists and maps, and convert the other operand of a string to text."""
    if isinstance(left, str) or isinstance(right, str):
        return to_string(left) + to_string(right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return {**left, **right}
    if isinstance(left, list):
        return left + (right if isinstance(right, list) else [right])
    return _calculate(operator.add, left, right)


def subtract(left: Value, right: Value) -> Value:
    """Subtract numbers, or remove a part from a string or items from a list."""
    if isinstance(left, str):
        return left.replace(to_string(right), "", 1)
    if isinstance(left, list):
        return [item for item in left if item not in (right if isinstance(right, list) else [right])]
    return _calculate(operator.sub, left, right)


def is_member(left: Value, right: Value) -> bool:
    """Return whether a list has an item, or a map a key."""
    if isinstance(right, (list, Mapping)):
        return any(equal(left, item) for item in right)
    return equal(left, right)


def matches(left: Value, right: Value) -> bool:
    """Return whether a regular expression matches the whole text."""
    try:
        return re.fullmatch(to_string(right), to_string(left)) is not None
    except re.error as error:
        raise EvaluationError(f"'{to_string(right)}' is not a regular expression: {error}") from None


def _calculate(operation: Callable[[Value, Value], Value], left: Value, right: Value) -> Value:
    if not (_is_number(left) and _is_number(right)):
        raise EvaluationError(f"cannot calculate with {type_name(left)} and {type_name(right)}")
    try:
        return operation(left, right)
    except (ZeroDivisionError, OverflowError) as error:
        raise EvaluationError(f"cannot calculate: {error}") from None


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _arithmetic(operation: Callable[[Value, Value], Value]) -> Callable[[Value, Value], Value]:
    return lambda left, right: _calculate(operation, left, right)


def _ordering(operation: Callable[[Value, Value], bool]) -> Callable[[Value, Value], bool]:
    def compare(left: Value, right: Value) -> bool:
        if left is None or right is None:  # null is less than anything else
            return operation(left is not None, right is not None)
        if (isinstance(left, str) and isinstance(right, str)) or (_is_number(left) and _is_number(right)):
            return operation(left, right)
        raise EvaluationError(f"cannot compare {type_name(left)} with {type_name(right)}")

    return compare


# By the name of the rule in expressions.lark.
BINARY_OPERATORS: dict[str, Callable[[Value, Value], Value]] = {
    "equal": equal,
    "not_equal": lambda left, right: not equal(left, right),
    "matches": matches,
    "less": _ordering(operator.lt),
    "less_or_equal": _ordering(operator.le),
    "greater": _ordering(operator.gt),
    "greater_or_equal": _ordering(operator.ge),
    "membership": is_member,
    "add": add,
    "subtract": subtract,
    "multiply": _arithmetic(operator.mul),
    "divide": _arithmetic(lambda left, right: left // right if left % right == 0 else left / right),
    "modulo": _arithmetic(lambda left, right: left - right * int(left / right)),
}
