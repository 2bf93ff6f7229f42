"""The monitor on the real data, week by week: its false alarms, and when it requests a training.

For champions of some dates, trained by the real stages: the weeks that each was trained on, of which a share of
`false_alarms` may be reported as drift, and the weeks after its promotion, until the end of the year.

.venv/bin/python tests/benchmarks/monitor_weeks.py # three champions: a quarter of an hour on idle cores
.venv/bin/python tests/benchmarks/monitor_weeks.py --as-of 2013-10-01 --shift 3
"""

from __future__ import annotations

import argparse
import logging
import os
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from scipy.stats import binomtest

from continuous_training.jenkins import ping
from continuous_training.monitoring.drift import PREDICTIONS
from continuous_training.monitoring.monitor import ModelMonitor
from continuous_training.monitoring.state import MonitorState
from continuous_training.registry import connection, model_versions
from continuous_training.replay import stages, workspace
from continuous_training.replay.months import next_month
from continuous_training.settings import load_settings, time_windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlflow import MlflowClient

    from continuous_training.monitoring.report import MonitorReport
    from continuous_training.settings import Settings

MODEL = "flight_delays"
WEEK = timedelta(days=7)
BEGIN, END = datetime(2013, 1, 1), datetime(2014, 1, 1)  # of the data


@dataclass(frozen=True)
class WeeklyReports:
    """The reports of some weeks, without those that had too few rows."""

    reports: list[MonitorReport]

    def count_columns(self) -> int:
        """Count the weeks in which any column exceeded its limit, which `false_alarms` limits."""
        return sum(
            any(column.ratio >= 1 for column in week.drifts if column.name != PREDICTIONS) for week in self.reports
        )

    def count_predictions(self) -> int:
        """Count the weeks in which the predictions exceeded their limit."""
        return sum(
            any(column.ratio >= 1 for column in week.drifts if column.name == PREDICTIONS) for week in self.reports
        )

    def count_verdicts(self, *verdicts: str) -> int:
        """Count the weeks with one of these verdicts."""
        return sum(week.decision.verdict in verdicts for week in self.reports)

    def format_share(self, count: int) -> str:
        """Return a share of the weeks with its exact binomial interval as text."""
        if not self.reports:
            return "no weeks"
        interval = binomtest(count, len(self.reports)).proportion_ci(0.95, method="exact")
        share = f"{count / len(self.reports):.0%} ({interval.low:.0%} to {interval.high:.0%})"
        return f"{count} of {len(self.reports)}: {share}"


def find_champion(client: MlflowClient, as_of: datetime) -> model_versions.Version:
    """Return the champion of a date in this workspace, trained by the real stages if there is none yet."""
    version = model_versions.by_alias(client, MODEL, model_versions.CHAMPION)
    if version is None:
        result = stages.run_stages(
            as_of, lambda _: nullcontext(), name=f"{as_of:%Y-%m-%d}", reason="weeks of the monitor"
        )
        version = model_versions.by_alias(client, MODEL, model_versions.CHAMPION)
        if version is None:
            raise SystemExit(f"there is no champion of {as_of:%Y-%m-%d}: {result.message}")
    return version


def check_weeks(
    client: MlflowClient, settings: Settings, version: model_versions.Version, ends: Iterable[datetime]
) -> WeeklyReports:
    """Run the monitor at the end of each week, with an empty state before the first."""
    MonitorState().write(client, version)
    reports = []
    for end in ends:
        monitor = ModelMonitor(client, MODEL, settings, "warehouse", as_of=end, now=end.replace(tzinfo=UTC))
        reports.append(monitor.check(ping.NO_JENKINS, None))
    return WeeklyReports([report for report in reports if report.decision.verdict != "not enough data"])


def weeks_before(until: datetime) -> Iterator[datetime]:
    """Yield the ends of the weeks before a time, the oldest first."""
    weeks = (until - BEGIN) // WEEK
    yield from (until - WEEK * number for number in reversed(range(weeks)))


def weeks_after(since: datetime) -> Iterator[datetime]:
    """Yield the ends of the weeks after a time."""
    weeks = (END - since) // WEEK
    yield from (since + WEEK * number for number in range(1, weeks + 1))


def print_champion(as_of: datetime, training: WeeklyReports, later: WeeklyReports, nominal: float) -> None:
    """Print the results for one champion."""
    first = next((week.as_of for week in later.reports if week.decision.verdict == "retrain"), None)
    schedule = next_month(as_of.replace(day=1))
    first_request = f"{first:%Y-%m-%d}, {(schedule - first).days:+d} days before the schedule" if first else "never"
    print(f"champion as of {as_of:%Y-%m-%d}")
    shares = {
        "within training, any column above its limit": (training, training.count_columns(), f"; nominal {nominal:.0%}"),
        "within training, the predictions above theirs": (training, training.count_predictions(), ""),
        "within training, warn or retrain": (training, training.count_verdicts("warn", "retrain"), ""),
        "within training, retrain": (training, training.count_verdicts("retrain"), ""),
        "after promotion, retrain": (later, later.count_verdicts("retrain"), ""),
    }
    for label, (weeks, count, note) in shares.items():
        print(f"  {label:<46} {weeks.format_share(count)}{note}")
    print(f"  {'after promotion, first request':<46} {first_request} ({schedule:%Y-%m-%d})")
    for period, weeks in (("within", training), ("after", later)):
        for week in weeks.reports:
            print(f"  {period:<6} {week.as_of:%Y-%m-%d}  {week.decision.verdict:<7}  {week.decision.message}")
    print(flush=True)


def main() -> None:
    """Run the monitor for every week of each champion, and print its reports."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--as-of", action="append", type=datetime.fromisoformat, help="a champion's date")
    parser.add_argument("--shift", type=int, default=0, help="days by which the weeks within training begin earlier")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    settings = load_settings(MODEL)
    url = workspace.absolute_url(settings.warehouse_url)
    for as_of in options.as_of or [datetime(2013, month, 1) for month in (4, 7, 10)]:
        with workspace.enter_workspace(MODEL, f"weeks-{as_of:%Y-%m-%d}", url, fresh=False):
            client = connection.open_client()
            version = find_champion(client, as_of)
            _, trained_until, _ = time_windows(settings.data, as_of)
            training = check_weeks(
                client, settings, version, weeks_before(trained_until - timedelta(days=options.shift))
            )
            later = check_weeks(client, settings, version, weeks_after(as_of))
            print_champion(as_of, training, later, settings.monitor.false_alarms)


if __name__ == "__main__":
    main()
