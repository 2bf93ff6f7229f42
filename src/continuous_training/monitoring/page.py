"""The monitor's page, build/monitor.html: the verdict, every column, and a chart of the last checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.documents import BUILD, write_atomically
from continuous_training.formatting import format_number, format_percent, format_time
from continuous_training.monitoring import history
from continuous_training.monitoring.report import DOCUMENT, EVIDENTLY_REPORT
from continuous_training.registry import holds
from continuous_training.reports.plots import Axis
from continuous_training.reports.templates import template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient

    from continuous_training.documents import Hold
    from continuous_training.monitoring.history import CheckSummary
    from continuous_training.monitoring.report import MonitorReport

TEMPLATE = Path(__file__).with_name("monitor.html.j2")
FILTERS = (("moment", format_time), ("number", format_number), ("percent", format_percent))
PAGE = BUILD / "monitor.html"
HEADLINES = {  # of each verdict: the CSS class and the text
    "none": ("good", "No drift detected"),
    "warn": ("held", "Drift or data quality warning, no training needed"),
    "retrain": ("bad", "The champion needs to be retrained"),
    "not enough data": ("calm", "Not enough data for a verdict"),
}
FAILED = ("bad", "The monitor could not run all checks")
MAX_RATIO = 3.0  # of a distance to its limit: larger ratios are drawn there
LEFT, RIGHT, TOP, BOTTOM = 34, 632, 24, 176  # of the plot area in the SVG


@dataclass(frozen=True)
class Marker:
    """One check in the chart; `y` is None if nothing was measured, `new_version` if the champion changed."""

    x: float
    y: float | None
    summary: CheckSummary
    new_version: bool


@dataclass(frozen=True)
class Chart:
    """The largest ratio of distance to limit at each of the last checks."""

    y: Axis
    markers: list[Marker]

    @property
    def lines(self) -> list[list[tuple[float, float]]]:
        """The points of each line: it breaks where nothing was measured and where the champion changed."""
        lines: list[list[tuple[float, float]]] = [[]]
        for marker in self.markers:
            if marker.new_version or marker.y is None:
                lines.append([])
            if marker.y is not None:
                lines[-1].append((marker.x, marker.y))
        return [points for points in lines if len(points) > 1]


def remove_outputs() -> None:
    """Remove the files of an earlier check, so that they are not mistaken for those of this check."""
    for path in (PAGE, DOCUMENT, EVIDENTLY_REPORT):
        path.unlink(missing_ok=True)


def write_page(client: MlflowClient, report: MonitorReport, checks: int) -> Path:
    """Write the page atomically, with a chart of so many of the last checks; return its path."""
    past, hold = history.read_history(client, report.model, checks), holds.find_if_readable(client, report.model)
    write_atomically(PAGE, render_page(report, past, hold))
    return PAGE


def render_page(report: MonitorReport, past: Sequence[CheckSummary], hold: Hold | None = None) -> str:
    """Return the page as HTML, with the model's hold."""
    tone, headline = FAILED if report.errors else HEADLINES[report.decision.verdict]
    return template(TEMPLATE, *FILTERS).render(
        report=report,
        hold=hold,
        tone=tone,
        headline=headline,
        drifts=sorted(report.drifts, key=lambda drift: -drift.ratio),
        chart=build_chart(past) if past else None,
        past=past,
        evidently=EVIDENTLY_REPORT.relative_to(BUILD) if EVIDENTLY_REPORT.exists() else None,
        max_ratio=MAX_RATIO,
    )


def build_chart(past: Sequence[CheckSummary]) -> Chart:
    """Return the chart of the last checks, the newest on the right."""
    x_axis = Axis(0, max(len(past) - 1, 1), LEFT + 8, RIGHT - 8)
    y_axis = Axis(0, MAX_RATIO, BOTTOM, TOP)
    previous = [None, *(summary.version for summary in past)]
    return Chart(
        y_axis,
        [
            Marker(
                x=x_axis.at(index),
                y=None if summary.ratio is None else y_axis.at(min(summary.ratio, MAX_RATIO)),
                summary=summary,
                new_version=bool(previous[index] and summary.version and summary.version != previous[index]),
            )
            for index, summary in enumerate(past)
        ],
    )
