"""The report's plots as coordinates, which the template renders as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.documents import Curve, Document, Metric, Run, Snapshot

TICKS = 5  # approximate number of ticks on an axis
MARGIN = 0.12  # share of an interval's axis beyond its outermost mark
SLIVER = 0.4  # per cent of the width: the minimum of a visible bar


@dataclass(frozen=True)
class Axis:
    """A linear scale from the values `low` to `high` to the positions `start` to `end`."""

    low: float
    high: float
    start: float = 0
    end: float = 100

    def at(self, value: float) -> float:
        """Return the position of a value."""
        share = (value - self.low) / ((self.high - self.low) or 1)
        return round(self.start + share * (self.end - self.start), 2)

    @property
    def ticks(self) -> dict[float, str]:
        """The ticks: round values and their labels."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        numbers = range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
        return {number * step: f"{number * step:.{decimals}f}" if number else "0" for number in numbers}


@dataclass(frozen=True)
class Interval:
    """The confidence interval of the candidate's improvement over the champion, with zero and the required margin."""

    axis: Axis
    low: float
    middle: float
    high: float
    margin: float

    @property
    def direction(self) -> Literal["better", "worse", "unsure"]:
        """Whether the whole interval lies above the margin, below zero, or neither."""
        if self.low > self.margin:
            return "better"
        return "worse" if self.high < 0 else "unsure"


def interval(metric: Metric) -> Interval | None:
    """Plot a metric's interval; None if the metric has none."""
    if metric.champion is None or metric.difference is None:
        return None
    (low, high), margin = metric.difference, metric.margin or 0.0
    marks = (low, high, metric.candidate - metric.champion, margin, 0.0)
    if min(marks) == max(marks):
        return None
    room = MARGIN * (max(marks) - min(marks))
    axis = Axis(min(marks) - room, max(marks) + room)
    return Interval(axis, low, metric.candidate - metric.champion, high, margin)


@dataclass(frozen=True)
class Line:
    """One model's curve, in the plot's coordinates."""

    model: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """A square plot of the candidate's curve and, if there is one, the champion's."""

    kind: Literal["roc", "calibration"]
    x: Axis
    y: Axis
    lines: list[Line]


def plots(curves: Sequence[Curve]) -> list[Plot]:
    """Plot the curves of a verdict, one plot per kind, with the candidate's line on top."""
    results = []
    for kind in ("roc", "calibration"):
        matches = sorted((curve for curve in curves if curve.kind == kind), key=lambda curve: curve.model, reverse=True)
        values = [value for curve in matches for value in (*curve.x, *curve.y)]
        if not values:
            continue
        # The probabilities of a rare event would fill only a corner of a plot that ends at 1
        highest = 1.0 if kind == "roc" else max(0.1, math.ceil(max(values) * 10 - 1e-9) / 10)
        x, y = Axis(0, highest, 40, 308), Axis(0, highest, 268, 12)
        lines = [
            Line(curve.model, [(x.at(a), y.at(b)) for a, b in zip(curve.x, curve.y, strict=False)]) for curve in matches
        ]
        results.append(Plot(kind, x, y, lines))
    return results


@dataclass(frozen=True)
class Bar:
    """A horizontal bar, in per cent of the width."""

    start: float
    width: float


@dataclass(frozen=True)
class Windows:
    """The windows of a snapshot up to AS_OF."""

    train: Bar
    fresh: Bar


def windows(run: Run, snapshot: Snapshot) -> Windows:
    """Plot the windows of the training rows and the fresh rows, and the gap before AS_OF whose labels are not final."""
    axis = Axis(snapshot.since.timestamp(), max(run.as_of.timestamp(), snapshot.until.timestamp()))
    since, fresh, until = (
        axis.at(moment.timestamp()) for moment in (snapshot.since, snapshot.fresh_since, snapshot.until)
    )
    return Windows(Bar(since, round(fresh - since, 2)), Bar(fresh, round(max(until - fresh, SLIVER), 2)))


def waterfall(stages: Sequence[Document]) -> dict[str, Bar]:
    """Plot when each stage ran, by the stem of its document.

    Time in which no stage ran is left out, such as a night of waiting for an approval.
    """
    idle, busy_until, starts = 0.0, 0.0, {}
    for stage in sorted(stages, key=lambda stage: stage.started.timestamp()):
        started = stage.started.timestamp()
        idle += max(0.0, started - busy_until)
        busy_until = max(busy_until, started + stage.seconds)
        starts[stage.stem] = started - idle
    axis = Axis(0, busy_until - idle)
    bars = {}
    for stage in stages:
        width = min(100.0, max(SLIVER, axis.at(stage.seconds)))
        bars[stage.stem] = Bar(min(axis.at(starts[stage.stem]), round(100 - width, 2)), width)
    return bars
