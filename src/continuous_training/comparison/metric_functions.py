"""A team's own metrics: functions that `compare.functions` in training.yaml names."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError
from continuous_training.formatting.scorers import is_error
from continuous_training.function_references import describe, import_function

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from continuous_training.settings import Compare

OPTIONAL = ("weights", "rows")


@dataclass(frozen=True)
class MetricFunction:
    """A metric of a team's own.

    Attributes:
        name: by which training.yaml uses it.
        reference: `package.module:function`.
        function: takes labels and predictions.
        options: the names in `OPTIONAL` that it takes too.
    """

    name: str
    reference: str
    function: Callable[..., Any]
    options: frozenset[str]

    def score(
        self, labels: NDArray[Any], predictions: NDArray[Any], weights: NDArray[Any], rows: pd.DataFrame
    ) -> float:
        """Call the function; a larger result is better.

        Args:
            labels: of shape (rows,); of two classes, whether it is the second one. Of several targets, of shape
                (rows, targets), in the order of `data.target`.
            predictions: of shape (rows,): numbers, or the probability of the second of two classes; of more classes,
                their probabilities, of shape (rows, classes), in the order of the sorted classes. Of several targets,
                of the labels' shape.
            weights: of shape (rows,).
            rows: all columns of the rows.

        Raises:
            UserError: it raises an exception, or returns no number.
        """
        options = {"weights": weights, "rows": rows}
        try:
            value = self.function(labels, predictions, **{name: options[name] for name in self.options})
            return -float(value) if is_error(self.name) else float(value)
        except Exception as error:  # whatever the team's function raises
            message = f"{self.reference} raised {describe(error)}"
            raise UserError(f"the metric {self.name} cannot be computed: {message}") from error


def load_metric_functions(limits: Compare) -> dict[str, MetricFunction]:
    """Import the functions of the section `compare`, by their names there.

    Raises:
        UserError: one cannot be imported, or takes other arguments.
    """
    return {name: _load(name, reference) for name, reference in limits.functions.items()}


def _load(name: str, reference: str) -> MetricFunction:
    key = f"compare.functions.{name}"
    function = import_function(reference, key)
    parameters = inspect.signature(function).parameters
    options = frozenset(OPTIONAL) & parameters.keys()
    try:
        inspect.signature(function).bind("labels", "predictions", **dict.fromkeys(options))
    except TypeError:
        takes = ", ".join(parameters) or "nothing"
        raise UserError(
            f"{key}: {reference} takes {takes}; it must take labels and predictions, and may take weights and rows"
        ) from None
    return MetricFunction(name, reference, function, options)
