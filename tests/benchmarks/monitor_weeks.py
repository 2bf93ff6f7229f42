"""The monitor on the real data, week by week: how often it cries wolf, and when it asks for a training.

For champions of some dates, made by the real stages: the weeks that each was trained on, of which a share of
`false_alarms` may be called moved, and the weeks after its promotion, until the year's end.

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
from continuous_training.monitoring.examination import Examiner
from continuous_training.monitoring.state import State
from continuous_training.registry import connection, model_versions
from continuous_training.replay import stages, workspace
from continuous_training.replay.months import following
from continuous_training.settings import load_settings, time_windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlflow import MlflowClient

    from continuous_training.monitoring.examination import Examination
    from continuous_training.settings import Settings

MODEL = "flight_delays"
WEEK = timedelta(days=7)
BEGIN, END = datetime(2013, 1, 1), datetime(2014, 1, 1)  # of the data


@dataclass(frozen=True)
class Looked:
    """What the monitor said of some weeks, those apart that had too few rows."""

    message: list[Examination]

    def over(self) -> int:
        """Count the weeks in which any column lay over its limit: what `false_alarms` is about."""
        return sum(any(one.ratio >= 1 for one in week.drifts if one.name != PREDICTIONS) for week in self.message)

    def predictions(self) -> int:
        """Count the weeks in which the predictions did."""
        return sum(any(one.ratio >= 1 for one in week.drifts if one.name == PREDICTIONS) for week in self.message)

    def verdicts(self, *verdicts: str) -> int:
        """Count the weeks with one of these verdicts."""
        return sum(week.decision.verdict in verdicts for week in self.message)

    def share(self, count: int) -> str:
        """Write a share of the weeks with its exact binomial interval."""
        if not self.message:
            return "no weeks"
        sure = binomtest(count, len(self.message)).proportion_ci(0.95, method="exact")
        return f"{count} of {len(self.message)}: {count / len(self.message):.0%} ({sure.low:.0%} to {sure.high:.0%})"


def champion(client: MlflowClient, as_of: datetime) -> model_versions.Version:
    """Return the champion of a date in this workspace, made by the real stages if there is none yet."""
    found = model_versions.by_alias(client, MODEL, model_versions.CHAMPION)
    if found is None:
        made = stages.run(as_of, lambda _: nullcontext(), name=f"{as_of:%Y-%m-%d}", reason="weeks of the monitor")
        found = model_versions.by_alias(client, MODEL, model_versions.CHAMPION)
        if found is None:
            raise SystemExit(f"there is no champion of {as_of:%Y-%m-%d}: {made.message}")
    return found


def look(client: MlflowClient, given: Settings, version: model_versions.Version, ends: Iterable[datetime]) -> Looked:
    """Let the monitor look at the weeks before these moments, which remembers nothing of other weeks at first."""
    State().write(client, version)
    weeks = []
    for end in ends:
        examiner = Examiner(client, MODEL, given, "warehouse", as_of=end, now=end.replace(tzinfo=UTC))
        weeks.append(examiner.examine(ping.NO_JENKINS, None))
    return Looked([week for week in weeks if week.decision.verdict != "not enough data"])


def before(until: datetime) -> Iterator[datetime]:
    """Yield the ends of the weeks before a moment, the oldest first."""
    whole = (until - BEGIN) // WEEK
    yield from (until - WEEK * number for number in reversed(range(whole)))


def after(since: datetime) -> Iterator[datetime]:
    """Yield the ends of the weeks after a moment."""
    whole = (END - since) // WEEK
    yield from (since + WEEK * number for number in range(1, whole + 1))


def tell(as_of: datetime, learnt: Looked, later: Looked, nominal: float) -> None:
    """Print what was found for one champion."""
    asked = next((week.as_of for week in later.message if week.decision.verdict == "retrain"), None)
    schedule = following(as_of.replace(day=1))
    when = f"{asked:%Y-%m-%d}, {(schedule - asked).days:+d} days before the schedule" if asked else "never"
    print(f"champion as of {as_of:%Y-%m-%d}")
    print(f"  within training, any column over its limit    {learnt.share(learnt.over())}; nominal {nominal:.0%}")
    print(f"  within training, the predictions over theirs  {learnt.share(learnt.predictions())}")
    print(f"  within training, warn or retrain              {learnt.share(learnt.verdicts('warn', 'retrain'))}")
    print(f"  within training, retrain                      {learnt.share(learnt.verdicts('retrain'))}")
    print(f"  after promotion, retrain                      {later.share(later.verdicts('retrain'))}")
    print(f"  after promotion, first asks                   {when} ({schedule:%Y-%m-%d})")
    for period, weeks in (("within", learnt), ("after", later)):
        for week in weeks.message:
            print(f"  {period:<6} {week.as_of:%Y-%m-%d}  {week.decision.verdict:<7}  {week.decision.message}")
    print(flush=True)


def main() -> None:
    """Let the monitor look at every week of each champion, and print what it said."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--as-of", action="append", type=datetime.fromisoformat, help="a champion's date")
    parser.add_argument("--shift", type=int, default=0, help="days by which the weeks within training begin earlier")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    given = load_settings(MODEL)
    url = workspace.absolute(given.warehouse_url)
    for as_of in asked.as_of or [datetime(2013, month, 1) for month in (4, 7, 10)]:
        with workspace.entered(MODEL, f"weeks-{as_of:%Y-%m-%d}", url, fresh=False):
            client = connection.open_client()
            version = champion(client, as_of)
            _, trained_until, _ = time_windows(given.data, as_of)
            learnt = look(client, given, version, before(trained_until - timedelta(days=asked.shift)))
            tell(as_of, learnt, look(client, given, version, after(as_of)), given.monitor.false_alarms)


if __name__ == "__main__":
    main()
