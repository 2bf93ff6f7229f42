"""How many independent cases the fresh rows are, and whether they suffice for the configured confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuous_training.documents import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.settings import Compare


def count_cases(rows: int, class_sizes: Sequence[int] | None, groups: int | None) -> int:
    """Count the independent cases: the rows of the rarest class, or all rows in a regression.

    Rows that the bootstrap draws as one group are one case. Rows of one class are none: they distinguish no models.

    Args:
        rows: the number of rows.
        class_sizes: the number of rows of each class in a classification; None for a regression.
        groups: the number of groups, if the bootstrap draws groups.
    """
    numbers = [rows]
    if class_sizes is not None:
        numbers.append(min(class_sizes) if len(class_sizes) > 1 else 0)
    if groups is not None:
        numbers.append(groups)
    return min(numbers)


def check_cases(rows: int, class_sizes: Sequence[int] | None, groups: int | None, limits: Compare) -> Rule:
    """Check that each end of the interval has at least one case."""
    cases = count_cases(rows, class_sizes, groups)
    is_grouped = cases < count_cases(rows, class_sizes, None)
    unit = f"{limits.resample_by}s" if is_grouped else "rows" if class_sizes is None else "rows of the rarest class"
    message = f"{cases:,} {unit} to judge by; {100 * limits.confidence:g}% confidence needs {limits.min_cases}"
    if not cases:
        message = "the fresh rows are all of one class: nothing can be judged by them"
    return Rule(
        name="cases to judge by",
        passed=cases >= limits.min_cases,
        value=cases,
        limit=limits.min_cases,
        message=message,
    )
