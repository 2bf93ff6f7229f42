"""The search of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from continuous_training.documents import Scalar
from continuous_training.settings.section import Mistake, Section

if TYPE_CHECKING:
    from collections.abc import Iterator


STEP_TOLERANCE = 1e-8  # of Optuna, in steps


class Range(Section):
    """The values of one parameter that are tried: `values`, or a range of numbers."""

    type: Literal["float", "int", "categorical"]
    """What the values are: `categorical` for a list, `float` and `int` for a range."""

    low: float | None = Field(default=None, examples=[0.01])
    """The smallest number of a range."""

    high: float | None = Field(default=None, examples=[0.3])
    """The largest number of a range."""

    log: bool = False
    """Whether small numbers are tried as often as large ones, as for a learning rate. It excludes `step`."""

    step: float | None = Field(default=None, gt=0, examples=[8])
    """The distance of the numbers of a range."""

    values: list[Scalar] | None = Field(default=None, min_length=1, examples=[["gbdt", "dart"]])
    """The values of a parameter of type `categorical`."""

    def find_mistakes(self) -> Iterator[Mistake]:
        """Yield what is missing, and what does not fit together."""
        is_range = self.type != "categorical"
        if is_range == (self.values is not None):
            yield (
                "values",
                f"a parameter of type {self.type} {'has no values: low and high' if is_range else 'needs values'}",
            )
        for key in ("low", "high"):
            if is_range and getattr(self, key) is None:
                yield key, f"a parameter of type {self.type} needs {key}"
        for key in ("low", "high", "step"):
            value = getattr(self, key)
            if not is_range and value is not None:
                yield key, f"a categorical parameter has no {key}"
            if self.type == "int" and value is not None and not value.is_integer():
                yield key, f"{key} of a parameter of type int must be a whole number, not {value:g}"
        if self.low is not None and self.high is not None and self.low > self.high:
            yield "low", f"low, {self.low:g}, must not be larger than high, {self.high:g}"
        yield from self._find_mistakes_of_log()

    def contains(self, value: Any) -> bool:  # noqa: ANN401 - a value of training.yaml or of MLflow
        """Return whether a value is among those that are tried."""
        if self.values is not None:
            return value in self.values
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or self.low is None or self.high is None or not self.low <= value <= self.high:
            return False
        step = self.step or (1 if self.type == "int" else None)
        return step is None or abs((value - self.low) / step - round((value - self.low) / step)) < STEP_TOLERANCE

    @property
    def first(self) -> Scalar:
        """The first of `values`, or `low`."""
        if self.values is not None:
            return self.values[0]
        low = self.low or 0.0  # it is not missing: the settings are checked
        return int(low) if self.type == "int" else low

    def _find_mistakes_of_log(self) -> Iterator[Mistake]:
        if self.log and self.type == "categorical":
            yield "log", "a categorical parameter has no log"
        if self.log and self.low is not None and self.low <= 0:
            yield "low", "low must be larger than 0 if log is true"
        if self.log and self.step is not None:
            yield "step", "log and step exclude each other"


class Search(Section):
    """The search for parameters by Optuna's tree-structured Parzen estimator, in place of a grid.

    The newest `fresh_days` of the training rows decide which trial is the best; its parameters are then fitted on all
    training rows. A run that was interrupted continues the search. With `COMPUTE=ec2`, `compute.at_once` instances
    share the trials.
    """

    space: dict[str, Range] = Field(
        min_length=1, examples=[{"learning_rate": {"type": "float", "low": 0.01, "high": 0.3, "log": True}}]
    )
    """The parameters of `build` that are varied, by name. The first trial has their values in `parameters`, if these
    are in the space."""

    trials: int = Field(default=50, gt=0)
    """How many values are tried at most."""

    minutes: float | None = Field(default=None, gt=0, examples=[30])
    """After how many minutes no other trial begins; each instance counts from its first trial."""

    at_once: int = Field(default=1, ge=1)
    """How many trials run at the same time on a machine, each in a process. With 1, the same `seed` tries the same
    values, unless several instances share the trials."""

    seed: int = Field(default=0, ge=0)
    """The seed of the random numbers."""

    prune: bool = True
    """Whether a trial ends early whose validation loss is above the median of the others' at the same step. It needs
    `model.validation_days`, and an estimator that reports its steps."""
