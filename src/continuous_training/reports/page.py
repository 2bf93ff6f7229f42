"""The page: one for a person, from whatever documents a run has left, with what is wrong with the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.documents import BUILD, write_atomically
from continuous_training.reports import plots
from continuous_training.reports.found import Found, gather
from continuous_training.reports.outcome import outcome
from continuous_training.reports.templates import template
from continuous_training.reports.words import day, duration, moment, number

if TYPE_CHECKING:
    from continuous_training.documents import Metric

TEMPLATE = Path(__file__).with_name("report.html.j2")
FILTERS = (("day", day), ("duration", duration), ("moment", moment), ("number", number))
PAGE = BUILD / "report.html"
HEADLINE = BUILD / "outcome.txt"  # for whoever has room for a line, such as a build's description
STARTERS = {
    "push": "a push",
    "cron": "the schedule",
    "drift": "a ping about drift",
    "data": "a ping about new data",
    "manual": "a person",
}


@dataclass(frozen=True)
class Measure:
    """A metric as people read it: a loss is positive, and an improvement is positive whichever way is better."""

    name: str
    lower_is_better: bool
    candidate: float
    champion: float | None
    improvement: float | None
    interval: tuple[float, float] | None


def write() -> Path:
    """Write build/report.html, and its headline beside it, each whole or not at all; return the page's path."""
    found = gather()
    write_atomically(PAGE, render(found))
    write_atomically(HEADLINE, outcome(found).headline + "\n")
    return PAGE


def render(documents: Found) -> str:
    """Return the whole page."""
    metrics = documents.verdict.metrics if documents.verdict else []
    return template(TEMPLATE, *FILTERS).render(
        found=documents,
        outcome=outcome(documents),
        stages=documents.stages,
        starters=STARTERS,
        measures=[measure(metric) for metric in metrics],
        interval=plots.interval(metrics[0]) if metrics else None,
        plots=plots.plots(documents.verdict.curves) if documents.verdict else [],
        windows=plots.windows(documents.run, documents.snapshot) if documents.run and documents.snapshot else None,
        bars=plots.waterfall([*documents.documents.values()]),
    )


def measure(metric: Metric) -> Measure:
    """Turn a scorer's value, of which more is better, into the metric that people know."""
    loss = metric.name.startswith("neg_")
    sign = -1 if loss else 1
    return Measure(
        name=metric.name.removeprefix("neg_"),
        lower_is_better=loss,
        candidate=sign * metric.candidate,
        champion=None if metric.champion is None else sign * metric.champion,
        improvement=None if metric.champion is None else metric.candidate - metric.champion,
        interval=metric.difference,
    )
