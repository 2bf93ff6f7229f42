"""The monitor's page, build/monitor.html: the verdict in words, every column, and how far they moved lately."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.documents import BUILD, format_percent, write_atomically
from continuous_training.monitoring import history
from continuous_training.monitoring.examination import ACCOUNT, DOCUMENT
from continuous_training.reports.formatting import format_number, format_time
from continuous_training.reports.plots import Axis
from continuous_training.reports.templates import template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient

    from continuous_training.monitoring.examination import Examination
    from continuous_training.monitoring.history import Look

TEMPLATE = Path(__file__).with_name("monitor.html.j2")
FILTERS = (("moment", format_time), ("number", format_number), ("percent", format_percent))
PAGE = BUILD / "monitor.html"
HEADLINES = {
    "none": ("good", "The champion is asked what it learnt"),
    "warn": ("held", "Something has moved, not enough for a training"),
    "retrain": ("bad", "The champion needs a training"),
    "not enough data": ("calm", "Not enough data to tell"),
}
HIGHEST = 3.0  # times its limit: what lies further is drawn there
LEFT, RIGHT, TOP, BOTTOM = 34, 632, 24, 176


@dataclass(frozen=True)
class Mark:
    """One examination in the drawing; `y` is None where nothing was measured."""

    x: float
    y: float | None
    look: Look
    changed: bool


@dataclass(frozen=True)
class Drawing:
    """The furthest column at each of the last examinations, in parts of its limit."""

    y: Axis
    marks: list[Mark]

    @property
    def lines(self) -> list[list[tuple[float, float]]]:
        """The points that a line joins: it breaks where nothing was measured, and where the champion changed."""
        found: list[list[tuple[float, float]]] = [[]]
        for mark in self.marks:
            if mark.changed or mark.y is None:
                found.append([])
            if mark.y is not None:
                found[-1].append((mark.x, mark.y))
        return [points for points in found if len(points) > 1]


def forget() -> None:
    """Remove what an earlier examination left, so that nobody takes it for this one's."""
    for path in (PAGE, DOCUMENT, ACCOUNT):
        path.unlink(missing_ok=True)


def write(client: MlflowClient, examination: Examination, most: int) -> Path:
    """Write the page, whole or not at all, with as many of the last examinations; return its path."""
    write_atomically(PAGE, render(examination, history.past(client, examination.model, most)))
    return PAGE


def render(examination: Examination, past: Sequence[Look]) -> str:
    """Return the page."""
    tone, headline = HEADLINES[examination.decision.verdict]
    if examination.faults:
        tone, headline = "bad", "The monitor could not do all of its work"
    return template(TEMPLATE, *FILTERS).render(
        found=examination,
        tone=tone,
        headline=headline,
        drifts=sorted(examination.drifts, key=lambda one: -one.ratio),
        drawing=drawing(past) if past else None,
        past=past,
        account=ACCOUNT.relative_to(BUILD) if ACCOUNT.exists() else None,
        highest=HIGHEST,
    )


def drawing(past: Sequence[Look]) -> Drawing:
    """Place the last examinations beside one another, the newest on the right."""
    across = Axis(0, max(len(past) - 1, 1), LEFT + 8, RIGHT - 8)
    up = Axis(0, HIGHEST, BOTTOM, TOP)
    before = [None, *(look.version for look in past)]
    return Drawing(
        up,
        [
            Mark(
                x=across.at(place),
                y=None if look.ratio is None else up.at(min(look.ratio, HIGHEST)),
                look=look,
                changed=bool(before[place] and look.version and look.version != before[place]),
            )
            for place, look in enumerate(past)
        ],
    )
