"""The report's plots as coordinates, which the template renders as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.documents import Curve, Document, FeatureImportance, Metric, ModelRole, Run, Snapshot

TICKS = 5  # approximate number of ticks on an axis
LEFT, RIGHT, BOTTOM, TOP = 40, 308, 268, 12  # of the area of a square plot
MARGIN = 0.12  # share of an interval's axis beyond its outermost mark
SLIVER = 0.4  # per cent of the width: the minimum of a visible bar
UNITS = ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))  # from which value on ticks have another unit, and which
DAY = 86400.0
TIME_STEPS = (
    *((3600.0, "%H:%M"), (6 * 3600.0, "%H:%M"), (DAY, "%-d %b"), (2 * DAY, "%-d %b"), (7 * DAY, "%-d %b")),
    *((14 * DAY, "%-d %b"), (30 * DAY, "%-d %b"), (91 * DAY, "%b %Y"), (365 * DAY, "%Y")),
)


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
        largest = max(abs(self.low), abs(self.high))
        unit, suffix = next(((unit, suffix) for limit, unit, suffix in UNITS if largest >= limit), (1.0, ""))
        decimals = max(0, -math.floor(math.log10(step / unit) + 1e-9))
        numbers = range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
        return {number * step: _label(number * step / unit, decimals, suffix) if number else "0" for number in numbers}


def _label(value: float, decimals: int, suffix: str) -> str:
    return f"{value:.{decimals}f}{suffix}".replace("-", "\N{MINUS SIGN}")


class TimeAxis(Axis):
    """A scale of moments in seconds since 1970."""

    @property
    def ticks(self) -> dict[float, str]:
        """The ticks: round moments in UTC and their labels."""
        step, style = next(
            ((step, style) for step, style in TIME_STEPS if (self.high - self.low) / step < TICKS - 1), TIME_STEPS[-1]
        )
        numbers = range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
        return {number * step: f"{datetime.fromtimestamp(number * step, UTC):{style}}" for number in numbers}


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
    """One model's curve, in the plot's coordinates; `ranges` has x, low and high of its deciles, if it has any."""

    model: str
    points: list[tuple[float, float]]
    ranges: list[tuple[float, float, float]]


@dataclass(frozen=True)
class Plot:
    """A square plot of the candidate's curve and, if there is one, the champion's.

    `ideal` has the ends of the line on which a good model would lie: x and y of the first, x and y of the second.
    """

    kind: Literal["roc", "calibration", "predicted", "residuals"]
    target: str | None
    x: Axis
    y: Axis
    ideal: tuple[float, float, float, float]
    lines: list[Line]


def plots(curves: Sequence[Curve]) -> list[Plot]:
    """Plot the curves of a verdict, one plot per kind and target, with the candidate's line on top."""
    results = []
    for target, kind in dict.fromkeys((curve.target, curve.kind) for curve in curves):
        matches = sorted(
            (curve for curve in curves if (curve.target, curve.kind) == (target, kind)),
            key=lambda curve: curve.model,
            reverse=True,
        )
        if not any(curve.x for curve in matches):
            continue
        x, y = _axes(kind, matches)
        ideal = (x.low, 0.0, x.high, 0.0) if kind == "residuals" else (x.low, x.low, x.high, x.high)
        lines = [
            Line(
                curve.model,
                [(x.at(a), y.at(b)) for a, b in zip(curve.x, curve.y, strict=False)],
                [
                    (x.at(a), y.at(b), y.at(c))
                    for a, b, c in zip(curve.x, curve.low or [], curve.high or [], strict=False)
                ],
            )
            for curve in matches
        ]
        results.append(
            Plot(kind, target, x, y, (x.at(ideal[0]), y.at(ideal[1]), x.at(ideal[2]), y.at(ideal[3])), lines)
        )
    return results


def _axes(kind: str, curves: Sequence[Curve]) -> tuple[Axis, Axis]:
    xs = [value for curve in curves for value in curve.x]
    ys = [value for curve in curves for value in (*curve.y, *(curve.low or []), *(curve.high or []))]
    if kind == "residuals":
        return TimeAxis(min(xs), max(xs), LEFT, RIGHT), Axis(*_span([0.0, *ys]), BOTTOM, TOP)
    low, high = _span([*xs, *ys])
    if kind != "predicted":
        # The probabilities of a rare event would fill only a corner of a plot that ends at 1
        low, high = 0.0, 1.0 if kind == "roc" else max(0.1, math.ceil(high * 10 - 1e-9) / 10)
    return Axis(low, high, LEFT, RIGHT), Axis(low, high, BOTTOM, TOP)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the smallest and the largest value, or values around them if they are equal."""
    low, high = min(values), max(values)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


@dataclass(frozen=True)
class Bar:
    """A horizontal bar, in per cent of the width."""

    start: float
    width: float


@dataclass(frozen=True)
class ImportanceBars:
    """The importance of a feature, with a bar for each model that has it."""

    feature: FeatureImportance
    bars: dict[ModelRole, Bar]


def importance_bars(features: Sequence[FeatureImportance]) -> list[ImportanceBars]:
    """Plot the importance of features; a bar to the left of the others' start is a negative value."""
    values: list[dict[ModelRole, float | None]] = [
        {"candidate": feature.candidate, "champion": feature.champion} for feature in features
    ]
    numbers = [0.0, *(value for row in values for value in row.values() if value is not None)]
    axis = Axis(min(numbers), max(numbers))
    return [
        ImportanceBars(
            feature,
            {
                role: Bar(
                    min(axis.at(min(value, 0)), 100 - SLIVER), max(SLIVER, round(axis.at(abs(value)) - axis.at(0), 2))
                )
                for role, value in row.items()
                if value is not None
            },
        )
        for feature, row in zip(features, values, strict=True)
    ]


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
