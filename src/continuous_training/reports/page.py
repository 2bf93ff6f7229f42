"""The report page of a run, from the documents that it has written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.documents import BUILD, write_atomically
from continuous_training.formatting import (
    format_confidence,
    format_day,
    format_duration,
    format_number,
    format_parameters,
    format_time,
)
from continuous_training.formatting.generalization import describe_gap
from continuous_training.formatting.scorers import TRAINING, format_score, is_error, natural_value, plain_name
from continuous_training.reports import plots
from continuous_training.reports.outcome import outcome
from continuous_training.reports.run_documents import RunDocuments, read_run_documents
from continuous_training.reports.templates import template

if TYPE_CHECKING:
    from continuous_training.documents import Metric, Verdict

TEMPLATE = Path(__file__).with_name("report.html.j2")
FILTERS = (
    *(
        ("confidence", format_confidence),
        ("day", format_day),
        ("duration", format_duration),
        ("moment", format_time),
        ("number", format_number),
    ),
    *(("parameters", format_parameters), ("plain_name", plain_name), ("score", format_score)),
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
    """A metric as people read it: its name, its natural values, and the improvement, positive for errors too.

    `training` is the candidate's value on its training rows. `target` names the one that the values are of, if they are
    not of all.
    """

    name: str
    lower_is_better: bool
    training: float | None
    candidate: float
    champion: float | None
    improvement: float | None
    interval: tuple[float, float] | None = None
    target: str | None = None


def write() -> Path:
    """Write build/report.html and its headline atomically; return the page's path."""
    documents = read_run_documents()
    write_atomically(PAGE, render(documents))
    write_atomically(HEADLINE, outcome(documents).headline + "\n")
    return PAGE


def render(documents: RunDocuments) -> str:
    """Return the page."""
    verdict = documents.verdict
    metrics = verdict.metrics if verdict else []
    scores = documents.candidate.metrics if documents.candidate else {}
    return template(TEMPLATE, *FILTERS).render(
        documents=documents,
        outcome=outcome(documents),
        stages=documents.stages,
        starters=STARTERS,
        measures=list_measures(verdict, scores) if verdict else [],
        gap=describe_gap(scores, metrics[0].name) if metrics else None,
        training=TRAINING,
        importance=plots.importance_bars(verdict.importance.features) if verdict and verdict.importance else [],
        interval=plots.interval(metrics[0]) if metrics else None,
        plots=plots.plots(verdict.curves) if verdict else [],
        windows=plots.windows(documents.run, documents.snapshot) if documents.run and documents.snapshot else None,
        bars=plots.waterfall([*documents.documents.values()]),
    )


def list_measures(verdict: Verdict, scores: dict[str, float]) -> list[Measure]:
    """Return the metrics of a verdict, the first one followed by its values for each of several targets."""
    measures = [measure(metric, scores) for metric in verdict.metrics]
    targets = [replace(measure(metric, {}), target=target) for target, metric in verdict.targets.items()]
    return [*measures[:1], *targets, *measures[1:]]


def measure(metric: Metric, scores: dict[str, float]) -> Measure:
    """Return a metric as people read it.

    Args:
        metric: the values of both models on the fresh rows.
        scores: the candidate's scorers in MLflow, among them those on its training rows.
    """
    training = scores.get(f"{TRAINING}{metric.name}")
    return Measure(
        name=plain_name(metric.name),
        lower_is_better=is_error(metric.name),
        training=None if training is None else natural_value(training, metric.name),
        candidate=natural_value(metric.candidate, metric.name),
        champion=None if metric.champion is None else natural_value(metric.champion, metric.name),
        improvement=None if metric.champion is None else metric.candidate - metric.champion,
        interval=metric.difference,
    )
