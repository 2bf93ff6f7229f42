"""The number of independent cases in the fresh rows, and whether it suffices for the configured confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from continuous_training.documents import Rule
from continuous_training.formatting import format_confidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from continuous_training.settings import Compare


def count_cases(rows: int, class_sizes: Sequence[int] | None, groups: int | None) -> int:
    """Count the independent cases: the rows of the rarest class, or all rows in a regression.

    Rows that the bootstrap draws as one group are one case. Rows of a single class are none: they distinguish no
    models.

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


def count_by_class(labels: pd.Series | None) -> list[int] | None:
    """Return the number of rows of each class; None for a regression, which has no `labels`."""
    return None if labels is None else labels.value_counts().tolist()


def count_groups(groups: NDArray[Any] | None) -> int | None:
    """Return the number of groups; None if the bootstrap draws single rows."""
    return None if groups is None else len(np.unique(groups))


def case_unit(*, is_classification: bool, resample_by: str) -> str:
    """Return what a case is, in words: what the bootstrap draws or, if it draws rows, those of the rarest class."""
    if resample_by != "row":
        return f"{resample_by}s"
    return "rows of the rarest class" if is_classification else "rows"


def check_cases(rows: int, class_sizes: Sequence[int] | None, groups: int | None, limits: Compare) -> Rule:
    """Check that each end of the interval has at least one case."""
    cases = count_cases(rows, class_sizes, groups)
    is_grouped = cases < count_cases(rows, class_sizes, None)
    unit = case_unit(is_classification=class_sizes is not None, resample_by=limits.resample_by if is_grouped else "row")
    message = f"{cases:,} {unit}; {format_confidence(limits.confidence)} confidence needs {limits.min_cases:,}"
    if not cases:
        message = "the fresh rows are all of one class: models cannot be compared on them"
    return Rule(
        name="number of fresh cases",
        passed=cases >= limits.min_cases,
        value=cases,
        limit=limits.min_cases,
        message=message,
    )
