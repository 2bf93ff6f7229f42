"""Expressions of many columns as balanced trees: Ibis recurses into an expression, and a chain of 1,000 is too deep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def fold(operation: Callable[[Any, Any], Any], parts: Sequence[Any]) -> Any:  # noqa: ANN401 - Ibis' have no types
    """Return `functools.reduce(operation, parts)` for an associative operation, nested only logarithmically deep."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return operation(fold(operation, parts[:middle]), fold(operation, parts[middle:]))
