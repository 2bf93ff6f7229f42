"""The report's drawings as numbers: where every mark lies. The template turns them into SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.documents import Curve, Document, Metric, Run, Snapshot

TICKS = 5  # about as many steps as an axis has
MARGIN = 0.12  # of an interval's axis beyond its outermost mark
SLIVER = 0.4  # per cent of the width: nothing that happened is invisible


@dataclass(frozen=True)
class Axis:
    """A straight scale: the values `low` to `high` lie at `start` to `end` of the drawing."""

    low: float
    high: float
    start: float = 0
    end: float = 100

    def at(self, value: float) -> float:
        """Return where a value lies."""
        share = (value - self.low) / ((self.high - self.low) or 1)
        return round(self.start + share * (self.end - self.start), 2)

    @property
    def ticks(self) -> dict[float, str]:
        """The round values on the axis, and how each is written."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        numbers = range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
        return {number * step: f"{number * step:.{decimals}f}" if number else "0" for number in numbers}


@dataclass(frozen=True)
class Interval:
    """The interval of the candidate's improvement over the champion, beside zero and the margin that is asked for."""

    axis: Axis
    low: float
    middle: float
    high: float
    margin: float

    @property
    def found(self) -> Literal["better", "worse", "unsure"]:
        """On which side of the margin and of zero the whole interval lies."""
        if self.low > self.margin:
            return "better"
        return "worse" if self.high < 0 else "unsure"


def interval(metric: Metric) -> Interval | None:
    """Draw a metric's interval; nothing if the metric has none."""
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
    """One model's curve, in the drawing's own units."""

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
    """Draw the curves of a verdict, one plot for each kind, with the candidate's line on top."""
    drawn = []
    for kind in ("roc", "calibration"):
        these = sorted((curve for curve in curves if curve.kind == kind), key=lambda curve: curve.model, reverse=True)
        values = [value for curve in these for value in (*curve.x, *curve.y)]
        if not values:
            continue
        # Probabilities of a rare event would huddle in the corner of a plot that goes to 1
        highest = 1.0 if kind == "roc" else max(0.1, math.ceil(max(values) * 10 - 1e-9) / 10)
        x, y = Axis(0, highest, 40, 308), Axis(0, highest, 268, 12)
        lines = [
            Line(curve.model, [(x.at(a), y.at(b)) for a, b in zip(curve.x, curve.y, strict=False)]) for curve in these
        ]
        drawn.append(Plot(kind, x, y, lines))
    return drawn


@dataclass(frozen=True)
class Bar:
    """A stretch of a drawing's width, in per cent."""

    start: float
    width: float


@dataclass(frozen=True)
class Windows:
    """The windows of a snapshot on the way to AS_OF."""

    train: Bar
    fresh: Bar


def windows(run: Run, snapshot: Snapshot) -> Windows:
    """Draw the training rows, the fresh rows, and what is left out before AS_OF, for its labels are not sure yet."""
    axis = Axis(snapshot.since.timestamp(), max(run.as_of.timestamp(), snapshot.until.timestamp()))
    since, fresh, until = (
        axis.at(moment.timestamp()) for moment in (snapshot.since, snapshot.fresh_since, snapshot.until)
    )
    return Windows(Bar(since, round(fresh - since, 2)), Bar(fresh, round(max(until - fresh, SLIVER), 2)))


def waterfall(stages: Sequence[Document]) -> dict[str, Bar]:
    """Draw when each stage ran, by the noun of its document.

    Time in which no stage ran is left out: a night of waiting for an approval would leave nothing else to see.
    """
    left_out, busy_until, begun = 0.0, 0.0, {}
    for stage in sorted(stages, key=lambda stage: stage.started.timestamp()):
        started = stage.started.timestamp()
        left_out += max(0.0, started - busy_until)
        busy_until = max(busy_until, started + stage.seconds)
        begun[stage.stem] = started - left_out
    axis = Axis(0, busy_until - left_out)
    bars = {}
    for stage in stages:
        width = min(100.0, max(SLIVER, axis.at(stage.seconds)))
        bars[stage.stem] = Bar(min(axis.at(begun[stage.stem]), round(100 - width, 2)), width)
    return bars
