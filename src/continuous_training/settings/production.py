"""How a version comes into production, how it is monitored there, and what starts the next run."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field

from continuous_training.settings.section import Section


class RolloutPhase(Section):
    """A time during which a candidate runs beside the champion, and the share of requests that it receives."""

    share: float = Field(gt=0, le=1, examples=[0.1])
    """The share of requests, from 0 to 1."""

    seconds: float = Field(gt=0, le=86400, examples=[600])
    """How long, in seconds."""


class Serving(Section):
    """How a version comes into service, and what the predictions log keeps.

    The servers' own numbers decide: the share of requests that failed, the 99th percentile of the response time and,
    beside a champion, the share of rows on which both predict the same.
    """

    shadow: RolloutPhase | None = Field(default=None, examples=[{"share": 0.5, "seconds": 600}])
    """The candidate predicts for copies of requests before it is promoted, and no client receives its predictions."""

    canary: RolloutPhase | None = Field(default=None, examples=[{"share": 0.1, "seconds": 600}])
    """The candidate serves a share of the requests in place of the champion before it is promoted."""

    watch_seconds: float = Field(default=5, ge=0, le=86400)
    """How long a new champion is watched, in seconds. If it fails in that time the previous one is restored."""

    probation_days: float = Field(default=7, ge=0, le=366)
    """For how many days after a promotion the monitor compares the new champion with the one before it, on the rows
    whose labels arrive and by the failed requests. If it is surely worse the one before it is restored, with a hold and
    a notice. With 0 it is not compared."""

    min_requests: int = Field(default=50, ge=1)
    """With fewer requests in that time nothing is decided by them."""

    max_error_share: float = Field(default=0.01, ge=0, le=1)
    """The largest share of failed requests, from 0 to 1."""

    max_milliseconds: float = Field(default=500, gt=0)
    """The largest 99th percentile of the response time, in milliseconds."""

    min_agreement: float = Field(default=0.8, ge=0, le=1)
    """The smallest share of rows, from 0 to 1, on which the candidate predicts the same as the champion."""

    log_share: float = Field(default=1.0, ge=0, le=1)
    """The share of requests that the predictions log keeps, from 0 to 1."""

    redacted: tuple[str, ...] = Field(default=(), examples=[["name", "street"]])
    """Columns that the predictions log does not keep."""


class Measure(Section):
    """A distance between the distributions of one column, and the threshold below which it does not matter."""

    test: Literal["wasserstein", "jensenshannon"]
    """`wasserstein` is how far numbers have moved, in standard deviations of the training rows. `jensenshannon` is how
    different the shares of categories are, from 0 to 0.83; it also suits a column of few numbers, such as a weekday."""

    threshold: float = Field(default=0.1, gt=0)
    """A distance up to this value is no drift."""


class Monitor(Section):
    """When the champion's inputs count as drifted, and what follows.

    A column has drifted if its distance from the training rows is above its threshold, and above the distances that
    windows of the same length had within the training rows. A share `columns_share` of the columns, one column
    together with the predictions, or the live metric start a run.
    """

    source: Literal["log", "warehouse"] = "log"
    """Which rows are monitored: those in the predictions log, or the newest ones that the query returns."""

    window_days: float = Field(default=7, gt=0)
    """The length of the window that is compared with the training rows, in days."""

    min_rows: int = Field(default=500, ge=30)
    """With fewer rows in the window nothing is decided."""

    sample_rows: int = Field(default=10_000, ge=1000, le=100_000)
    """How many rows of the window are examined in detail."""

    false_alarms: float = Field(default=0.05, gt=0, lt=1)
    """The share of windows without any drift that may nevertheless be reported as drift; also for the live metric."""

    numbers: Measure = Measure(test="wasserstein")
    """How columns that are not categories are measured."""

    categories: Measure = Measure(test="jensenshannon")
    """How columns of type category are measured."""

    predictions: float = Field(default=0.1, gt=0)
    """The threshold of the predictions' distance."""

    columns: dict[str, Measure] = Field(default_factory=dict, examples=[{"weekday": {"test": "jensenshannon"}}])
    """How single columns are measured instead, by name."""

    columns_share: float = Field(default=0.3, gt=0, le=1)
    """The share of columns, from 0 to 1, whose drift starts a run."""

    max_odd_share: float = Field(default=0.01, ge=0, lt=1)
    """How much larger than in the training rows the share of a column's nulls, of its values outside their range, or of
    its unseen categories may be, from 0 to 1. A column above it is reported."""

    confirmations: int = Field(default=1, ge=1)
    """In how many consecutive checks a column must be above its threshold before it counts as drifted."""

    leave: float = Field(default=0.8, gt=0, le=1)
    """A drifted column counts as such until its distance is below this share of its limit."""

    cool_down_hours: float = Field(default=168, ge=0)
    """For how many hours after it has started a run the monitor starts no other one for the same version."""

    history_length: int = Field(default=60, ge=1, validation_alias=AliasChoices("history_length", "shown"))
    """How many past checks the monitor's page shows."""

    def measure_of(self, name: str, kind: str) -> Measure:
        """Return how the column of this name and type is measured."""
        return self.columns.get(name) or (self.categories if kind == "category" else self.numbers)


class Triggers(Section):
    """Which pings and which new rows start a run. Late and corrected rows count as new ones."""

    cool_down_hours: float = Field(default=12, ge=0)
    """For how many hours a ping with the same reason as an earlier one trains nothing."""

    min_new_rows: int = Field(default=1000, gt=0)
    """How many new rows there must be to start a run."""

    min_new_share: float = Field(default=0.05, ge=0)
    """How many there must be as a share of the champion's rows; both limits must be reached."""

    max_age: float | None = Field(default=None, gt=0, examples=[14])
    """After how many days, counted from the champion's newest row, any new row at all starts a run."""
