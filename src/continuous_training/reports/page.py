"""The report page of a run, from the documents that it has written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.documents import BUILD, write_atomically
from continuous_training.formatting import format_day, format_duration, format_number, format_time
from continuous_training.reports import plots
from continuous_training.reports.outcome import outcome
from continuous_training.reports.run_documents import RunDocuments, read_run_documents
from continuous_training.reports.templates import template
from continuous_training.scorers import format_score, is_error, natural_value, plain_name

if TYPE_CHECKING:
    from continuous_training.documents import Metric

TEMPLATE = Path(__file__).with_name("report.html.j2")
FILTERS = (
    *(("day", format_day), ("duration", format_duration), ("moment", format_time), ("number", format_number)),
    *(("plain_name", plain_name), ("score", format_score)),
)
PAGE = BUILD / "report.html"
HEADLINE = BUILD / "outcome.txt"  # one line, for a build's description
STARTERS = {
    "push": "a push",
    "cron": "the schedule",
    "drift": "a ping about drift",
    "data": "a ping about new data",
    "manual": "a person",
}


@dataclass(frozen=True)
class Measure:
    """A metric as people read it: its name, its natural values, and the improvement, positive for errors too."""

    name: str
    lower_is_better: bool
    candidate: float
    champion: float | None
    improvement: float | None
    interval: tuple[float, float] | None


def write() -> Path:
    """Write build/report.html and its headline atomically; return the page's path."""
    documents = read_run_documents()
    write_atomically(PAGE, render(documents))
    write_atomically(HEADLINE, outcome(documents).headline + "\n")
    return PAGE


def render(documents: RunDocuments) -> str:
    """Return the page."""
    metrics = documents.verdict.metrics if documents.verdict else []
    return template(TEMPLATE, *FILTERS).render(
        documents=documents,
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
    """Return a metric as people read it."""
    return Measure(
        name=plain_name(metric.name),
        lower_is_better=is_error(metric.name),
        candidate=natural_value(metric.candidate, metric.name),
        champion=None if metric.champion is None else natural_value(metric.champion, metric.name),
        improvement=None if metric.champion is None else metric.candidate - metric.champion,
        interval=metric.difference,
    )
