"""The rules of slices: the metric is not significantly worse in one, and which values have too few cases."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from continuous_training.comparison.cases import case_unit
from continuous_training.comparison.difference import Difference, estimate_difference
from continuous_training.comparison.slices import MIN_CASES, Slice, join_some, slice_by_value
from continuous_training.documents import Rule
from continuous_training.formatting import format_number
from continuous_training.formatting.scorers import format_improvement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.comparison.ground_truth import GroundTruth
    from continuous_training.settings import Compare


class SliceRules:
    """The rules of all slices that training.yaml names, of a candidate beside a champion."""

    def __init__(
        self,
        fresh: pd.DataFrame,
        limits: Compare,
        models: tuple[Predictions, Predictions],
        truth: GroundTruth,
        classes: pd.Series | None,
        groups: NDArray[Any] | None,
        days: float,
    ) -> None:
        """Take what all slices have in common.

        Args:
            fresh: the fresh rows.
            limits: the section `compare`.
            models: the predictions of candidate and champion for these rows.
            truth: their ground truth.
            classes: their labels in a classification, of shape (rows,).
            groups: their groups in the bootstrap, of shape (rows,), if it draws groups.
            days: the length of their window.
        """
        self._fresh, self._limits, self._models, self._truth = fresh, limits, models, truth
        self._classes, self._groups, self._days = classes, groups, days

    def check(self) -> Iterator[Rule]:
        """Check each slice, and say which values are in none."""
        limits = self._limits
        by_column = {name: slice_by_value(self._fresh[name], self._classes, self._groups) for name in limits.slices}
        tail = limits.tail / max(1, sum(len(slicing.slices) for slicing in by_column.values()))
        for column, (slices, rare) in by_column.items():
            for part in slices:
                yield check_slice(part.name, len(part.rows), self._difference(part), limits.slices[column], tail)
            if rare:
                yield report_rare_values(column, rare, self._unit, self._days)

    @property
    def _unit(self) -> str:
        drawn = self._limits.resample_by
        units = [case_unit(is_classification=False, resample_by=drawn)] if drawn != "row" else []
        if self._classes is not None or not units:
            units.append(case_unit(is_classification=self._classes is not None, resample_by="row"))
        return " and ".join(units)

    def _difference(self, part: Slice) -> Difference | None:
        """Return the difference in a slice; None if the metric is not defined there."""
        candidate, champion = (model.take(part.rows) for model in self._models)
        truth = self._truth.take(part.rows)
        groups = None if self._groups is None else self._groups[part.rows]
        return estimate_difference(candidate, champion, truth, self._limits, groups, part.cases)


def check_slice(name: str, rows: int, difference: Difference | None, max_decrease: float, tail: float) -> Rule:
    """Check that the metric is not significantly worse in a slice by more than `max_decrease`.

    Args:
        name: the slice.
        rows: the number of its rows.
        difference: in the metric; None if it is not defined on most resamples.
        max_decrease: by how much it may worsen.
        tail: the probability of a false alarm for a slice that is worse by exactly that: the interval's, divided by the
            number of slices (Bonferroni).
    """
    if difference is None:
        message = f"{name} ({rows:,} rows): the metric is not defined on most of its resamples"
        return Rule(name=name, passed=False, value=None, limit=-max_decrease, message=message)
    best = difference.best(tail)
    passed = best >= -max_decrease
    improvement = f"{format_improvement(difference.value)} ± {format_number(difference.standard_error)}"
    message = f"{name} ({rows:,} rows): improvement {improvement}"
    if not passed:
        message += f", significantly worse by more than {max_decrease:g}"
    return Rule(name=name, passed=passed, value=best, limit=-max_decrease, message=message)


def report_rare_values(column: str, cases: Mapping[str, int], unit: str, days: float) -> Rule:
    """Say which values of a column are not judged, and about how long the fresh rows would have to be for that.

    Args:
        column: its name.
        cases: the number of cases of each value, fewer than `MIN_CASES`.
        unit: what a case is, as in 'days'.
        days: the length of the window of the fresh rows.
    """
    values = [f"{name} has {number}{_describe_days(number, days)}" for name, number in cases.items()]
    message = f"{column} is not judged for every value: at least {MIN_CASES} {unit} are needed, and {join_some(values)}"
    return Rule(name=f"{column}: rare values", passed=True, judged=False, value=None, limit=MIN_CASES, message=message)


def _describe_days(cases: int, days: float) -> str:
    return f" (about {math.ceil(days * MIN_CASES / cases):,} fresh days would do)" if cases else ""
