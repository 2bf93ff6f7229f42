"""The result of a replay as a plot, build/replay.png, and as a page with the plot, build/replay.html."""

from __future__ import annotations

import io
import math
import re
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from continuous_training.documents import BUILD, write_atomically
from continuous_training.formatting.scorers import format_score, is_error, natural_value, plain_name
from continuous_training.replay import summary
from continuous_training.replay.months import MONTH_FORMAT
from continuous_training.reports.templates import template

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from continuous_training.replay.policies import ReplayResult

TEMPLATE = Path(__file__).with_name("replay.html.j2")
FILTERS = (
    ("score", format_score),
    ("month", summary.format_month),
    ("difference", summary.format_difference),
    ("runs", summary.describe_runs),
)
PAGE, IMAGE = BUILD / "replay.html", BUILD / "replay.png"
BLUE, GREY, AMBER, GREEN = "#3b82f6", "#8a919c", "#d97706", "#16a34a"  # visible on white and on black
INK = "#1b1f24"  # becomes the page's text colour
STYLE: Any = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK) | {
    "axes.spines.top": False,
    "axes.spines.right": False,
}
FIGURE_SIZE = (4.8, 5.6)  # inches: narrow enough to be readable on a phone
MAX_LABELS = 12  # months whose names fit on the axis
POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "never": ("never retrain", {"color": GREY, "linestyle": "--", "marker": "."}),
    "always": ("always the newest", {"color": AMBER, "linewidth": 5, "alpha": 0.55}),
    "gate": ("the gate", {"color": BLUE, "linewidth": 1.8, "marker": "o", "markersize": 4.5}),
    "drift": ("retrain on drift", {"color": GREEN, "linewidth": 1.5, "marker": "^", "markersize": 4.5}),
    "hindsight": ("hindsight", {"color": INK, "linestyle": ":", "linewidth": 1.2}),
}
DECISIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "promoted": ("promoted", {"color": BLUE, "marker": "o"}),
    "rejected": ("rejected", {"color": AMBER, "marker": "s", "markerfacecolor": "none"}),
}


def write_page(result: ReplayResult) -> tuple[Path, Path]:
    """Write the page and the plot atomically; return their paths."""
    BUILD.mkdir(exist_ok=True)
    temporary = IMAGE.with_name(f".{IMAGE.name}")
    plot(result).savefig(temporary, format="png", dpi=150)
    temporary.replace(IMAGE)
    write_atomically(PAGE, render_page(result))
    return PAGE, IMAGE


def render_page(result: ReplayResult) -> str:
    """Return the page as HTML."""
    headline = summary.headline(result)
    return template(TEMPLATE, *FILTERS).render(
        result=result,
        headline=headline,
        metric=plain_name(result.metric),
        direction="lower" if is_error(result.metric) else "higher",
        sentences=summary.summarize(result),
        plot=to_svg(plot(result), headline),
    )


def plot(result: ReplayResult) -> Figure:
    """Plot the score of each policy in each month, and below it the gain or cost of each decision."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=FIGURE_SIZE, layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        _plot_scores(upper, result)
        _plot_gains(lower, result)
    return figure


def to_svg(figure: Figure, label: str) -> str:
    """Return a figure as an SVG element with the page's text colour and font.

    Styles become attributes, because Jenkins may show a page without its styles; unused identifiers are removed.
    """
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "replay"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg ") :].replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)
    return re.sub(r'style="(.*?)"', _style_to_attributes, svg).replace(INK, "currentColor")


def _style_to_attributes(style: re.Match[str]) -> str:
    pairs = (declaration.split(": ", 1) for declaration in style[1].split("; "))
    return " ".join(f'{name}="{value}"' for name, value in pairs if name != "font-family")


def _plot_scores(axes: Axes, result: ReplayResult) -> None:
    """Plot a line for each policy; months without a champion are gaps."""
    for policy in result.policies:
        label, style = POLICIES[policy]
        scores = [getattr(month.scores, policy) if month.scores else math.nan for month in result.months]
        values = [natural_value(score, result.metric) for score in scores]
        axes.plot(range(len(values)), values, label=label, **style)
    axes.set_ylabel(plain_name(result.metric))
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=2, frameon=False)


def _plot_gains(axes: Axes, result: ReplayResult) -> None:
    """Plot the gain or cost of each decision with its interval."""
    axes.axhline(0, color=INK, linewidth=0.8)
    for decision, (label, style) in DECISIONS.items():
        gains = [
            (index, month.gain)
            for index, month in enumerate(result.months)
            if month.gain and month.run.decision == decision
        ]
        for index, gain in gains:
            if gain.low is not None and gain.high is not None:
                axes.plot([index, index], [gain.low, gain.high], color=style["color"], linewidth=1.5)
        axes.plot([index for index, _ in gains], [gain.value for _, gain in gains], label=label, ls="none", **style)
    axes.set_ylabel("gain or cost")
    axes.set_xlim(-0.4, len(result.months) - 0.6)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=2, frameon=False)
    step = math.ceil(len(result.months) / MAX_LABELS)
    indexes = range(0, len(result.months), step)
    axes.set_xticks(indexes, [_axis_label(result.months[index].run.month, first=not index) for index in indexes])


def _axis_label(month: str, *, first: bool) -> str:
    """Return a short name of a month, with the year where one begins."""
    at = datetime.strptime(month, MONTH_FORMAT)
    return f"{at:%b}\n{at:%Y}" if first or at.month == 1 else f"{at:%b}"
