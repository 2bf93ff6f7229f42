"""How candidate and champion are compared."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from continuous_training.formatting.scorers import is_error
from continuous_training.function_references import PATTERN
from continuous_training.settings.section import Mistake, Section

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_RESAMPLES_BEYOND = 5  # resamples that must lie beyond each end of an interval, or that end is chance


class Compare(Section):
    """What a candidate must reach: against the champion, or by itself while there is none.

    Metrics are scikit-learn's scorers, and functions of your own. All limits are in the scorer's own units, where more
    is better: an error of at most 40 is `neg_mean_absolute_error: -40`. Messages and pages show the error itself, 40.
    """

    metric: str = Field(examples=["roc_auc", "neg_mean_absolute_error", "neg_log_loss"])
    """The scorer that decides, for example `roc_auc` (binary classification), `neg_log_loss` or `roc_auc_ovr`
    (multi-class classification), `neg_mean_absolute_error` or `r2` (regression), `ndcg` (a
    regression that ranks the rows of each `data.group`). The second of two classes, in their
    order, is the positive one."""

    functions: dict[str, str] = Field(default_factory=dict, examples=[{"neg_cost": "orders.metrics:cost"}])
    """Metrics of your own: functions as `package.module:function`, by the names that the other keys use. A name that
    begins with `neg_` is that of an error, and what the function returns is negated. The function is called with
    `labels` and `predictions`, and with `weights` and `rows`, all columns, if it has parameters of these names. Labels
    and predictions are as scikit-learn's metrics take them: of two classes, whether a row is of the second one, and its
    probability; of more, the labels and a matrix of probabilities. Of several targets both have a column for each, in
    the order of `data.target`."""

    report: tuple[str, ...] = Field(default=(), examples=[["average_precision", "neg_brier_score"]])
    """Scorers that are shown in the report and decide nothing."""

    min_improvement: float = Field(default=0.0, ge=0)
    """The lower end of the interval of the difference, candidate minus champion, must be above this value."""

    non_inferior: float | None = Field(default=None, gt=0, examples=[0.002])
    """By how much the candidate may be worse, for teams that prefer a recent model to an old one. It excludes
    `min_improvement`."""

    smallest_difference: float = Field(default=0.0, ge=0, examples=[0.005])
    """The smallest true improvement of `metric` that is worth finding. `data.fresh_days: auto` needs it, unless there
    is `non_inferior`."""

    power: float = Field(default=0.8, gt=0.5, lt=1, examples=[0.9])
    """With which probability a run promotes a candidate that is better by `smallest_difference`, if `data.fresh_days`
    is `auto` and its bounds allow as many days."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """The confidence level of all intervals."""

    error_rate_days: int | None = Field(default=30, gt=0, examples=[30])
    """For how many days of new rows together the error rate of `confidence` holds. Runs of every night judge nearly the
    same rows, so the intervals of each are wider: of 95 % they become 99.83 % in a period of 30 days. A single run in
    that time has most of the rate: 96.4 %. `null` lets each run err as if it were alone."""

    resamples: int = Field(default=1000, ge=100)
    """The number of bootstrap resamples. A higher confidence needs more of them."""

    resample_by: Literal["row", "hour", "day", "week", "group"] = "row"
    """What the bootstrap draws: single rows, or all rows of an hour, a day, a week or a group (`data.group`) together.
    Choose one if its rows are not independent, as single rows would then look like more evidence than they are."""

    first: dict[str, float] = Field(min_length=1, examples=[{"roc_auc": 0.6}, {"neg_mean_absolute_error": -40}])
    """What a first model must reach, by scorer, while there is no champion."""

    guardrails: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, examples=[{"neg_log_loss": 0.02}]
    )
    """By how much other scorers may become worse at most."""

    slices: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict, examples=[{"country": 0.05}])
    """By how much `metric` may become worse at most among the rows of each value of a column, by column."""

    max_calibration_error: float | None = Field(default=None, gt=0, examples=[0.1])
    """How far predicted probabilities may be from the real shares on average, from 0 to 1. A candidate above it passes
    if the champion is no better. Binary classification only."""

    max_milliseconds: float | None = Field(default=None, gt=0, examples=[200])
    """How long the prediction for one row may take, in milliseconds."""

    max_slowdown: float | None = Field(default=None, gt=0, examples=[5])
    """How long it may take, as a multiple of the champion's time."""

    max_megabytes: float | None = Field(default=None, gt=0, examples=[20])
    """How large the stored model may be, in MB."""

    new_inputs: tuple[str, ...] = Field(default=(), examples=[["weight"]])
    """Features that the champion does not have and that clients already send. Any other new feature is a reason to
    reject: clients of the champion could not call the candidate."""

    def find_mistakes(self) -> Iterator[Mistake]:
        """Yield names that are none, limits that exclude each other, and a confidence that needs more resamples."""
        for name, reference in self.functions.items():
            if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
                yield f"functions.{name}", "the name of a metric has letters, digits and _"
            if not re.fullmatch(PATTERN, reference):
                yield f"functions.{name}", f"write it as package.module:function, not {reference!r}"
        if self.non_inferior is not None and self.min_improvement:
            yield "non_inferior", "non_inferior and min_improvement exclude each other"
        if self.metric in self.guardrails:
            yield f"guardrails.{self.metric}", f"{self.metric} is the metric that decides and cannot be a guardrail too"
        for scorer, limit in self.first.items():
            if is_error(scorer) and limit > 0:
                yield f"first.{scorer}", f"{scorer} is never above 0: write {-limit:g} for at most {limit:g}"
        min_resamples = round(MIN_RESAMPLES_BEYOND / self.tail)
        if self.resamples < min_resamples:
            yield "resamples", f"confidence {self.confidence} needs at least {min_resamples} resamples"

    @property
    def scorers(self) -> set[str]:
        """The names of all scorers that the section uses."""
        return {*self.metrics, *self.first}

    @property
    def metrics(self) -> list[str]:
        """The names of the scorers that are computed for candidate and champion, the one that decides first."""
        return list(dict.fromkeys([self.metric, *self.guardrails, *self.report]))

    @property
    def tail(self) -> float:
        """The share that lies beyond each end of an interval."""
        return (1 - self.confidence) / 2

    @property
    def min_cases(self) -> int:
        """The number of cases below which such a share is less than one of them."""
        return math.ceil(round(1 / self.tail, 6))

    @property
    def margin(self) -> float:
        """The value that the lower end of the difference's interval must be above."""
        return self.min_improvement if self.non_inferior is None else -self.non_inferior
