"""The result of a replay as a picture, build/replay.png, and as a page around it, build/replay.html."""

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
from continuous_training.replay import summary as words
from continuous_training.replay.months import PATTERN
from continuous_training.reports.formatting import format_number
from continuous_training.reports.templates import template

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from continuous_training.replay.policies import Result

TEMPLATE = Path(__file__).with_name("replay.html.j2")
FILTERS = (("number", format_number), ("day", words.day), ("difference", words.difference), ("runs", words.runs))
PAGE, PICTURE = BUILD / "replay.html", BUILD / "replay.png"
BLUE, GREY, AMBER, GREEN = "#3b82f6", "#8a919c", "#d97706", "#16a34a"  # seen on white and on black
INK = "#1b1f24"
INKED: Any = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK) | {
    "axes.spines.top": False,
    "axes.spines.right": False,
}
INCHES = (4.8, 5.6)  # narrow enough to be read on a phone
LABELS = 12  # months that have room for their names
POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "never": ("never retrain", {"color": GREY, "linestyle": "--", "marker": "."}),
    "always": ("always the newest", {"color": AMBER, "linewidth": 5, "alpha": 0.55}),
    "gate": ("the gate", {"color": BLUE, "linewidth": 1.8, "marker": "o", "markersize": 4.5}),
    "drift": ("retrain on drift", {"color": GREEN, "linewidth": 1.5, "marker": "^", "markersize": 4.5}),
    "hindsight": ("hindsight", {"color": INK, "linestyle": ":", "linewidth": 1.2}),
}
DECIDED: dict[str, tuple[str, dict[str, Any]]] = {
    "promoted": ("promoted", {"color": BLUE, "marker": "o"}),
    "rejected": ("rejected", {"color": AMBER, "marker": "s", "markerfacecolor": "none"}),
}


def write(result: Result) -> tuple[Path, Path]:
    """Write the page and the picture, whole or not at all, and return their paths."""
    BUILD.mkdir(exist_ok=True)
    unfinished = PICTURE.with_name(f".{PICTURE.name}")
    figure(result).savefig(unfinished, format="png", dpi=150)
    unfinished.replace(PICTURE)
    write_atomically(PAGE, render(result))
    return PAGE, PICTURE


def render(result: Result) -> str:
    """Return the page."""
    return template(TEMPLATE, *FILTERS).render(
        result=result,
        headline=words.headline(result),
        sentences=words.sentences(result),
        drawing=svg(figure(result), words.headline(result)),
    )


def figure(result: Result) -> Figure:
    """Draw what each policy scored in each month, and below what each decision gained or cost."""
    with mpl.rc_context(INKED):
        drawn = Figure(figsize=INCHES, layout="constrained")
        above, below = drawn.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        _draw_scores(above, result)
        _draw_gains(below, result)
    return drawn


def svg(drawn: Figure, label: str) -> str:
    """Return a figure as an SVG element in the page's own ink and font.

    Styles become attributes, for Jenkins may show a page without its styles; identifiers that nothing refers to go.
    """
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "replay"}):
        drawn.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    found = file.getvalue()
    found = found[found.index("<svg ") :].replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)
    found = re.sub(r"<(metadata|style).*?</\1>", "", found, flags=re.DOTALL)
    found = re.sub(r' id="[\w.]+_\d+"', "", found)
    return re.sub(r'style="(.*?)"', _attributes, found).replace(INK, "currentColor")


def _attributes(style: re.Match[str]) -> str:
    pairs = (one.split(": ", 1) for one in style[1].split("; "))
    return " ".join(f'{name}="{value}"' for name, value in pairs if name != "font-family")


def _draw_scores(axes: Axes, result: Result) -> None:
    """Draw a line for each policy; months without a champion leave a gap."""
    for policy in result.policies:
        label, style = POLICIES[policy]
        scores = [getattr(line.scores, policy) if line.scores else math.nan for line in result.lines]
        axes.plot(range(len(scores)), scores, label=label, **style)
    axes.set_ylabel(result.metric)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=2, frameon=False)


def _draw_gains(axes: Axes, result: Result) -> None:
    """Draw what each decision gained or cost, with its interval."""
    axes.axhline(0, color=INK, linewidth=0.8)
    for decision, (label, style) in DECIDED.items():
        drawn = [
            (place, line.gain)
            for place, line in enumerate(result.lines)
            if line.gain and line.made.decision == decision
        ]
        for place, gain in drawn:
            if gain.low is not None and gain.high is not None:
                axes.plot([place, place], [gain.low, gain.high], color=style["color"], linewidth=1.5)
        axes.plot([place for place, _ in drawn], [gain.value for _, gain in drawn], label=label, ls="none", **style)
    axes.set_ylabel("gain or cost")
    axes.set_xlim(-0.4, len(result.lines) - 0.6)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=2, frameon=False)
    every = math.ceil(len(result.lines) / LABELS)
    places = range(0, len(result.lines), every)
    axes.set_xticks(places, [_label(result.lines[place].made.month, first=not place) for place in places])


def _label(month: str, *, first: bool) -> str:
    """Name a month in little room, and its year where one begins."""
    at = datetime.strptime(month, PATTERN)
    return f"{at:%b}\n{at:%Y}" if first or at.month == 1 else f"{at:%b}"
