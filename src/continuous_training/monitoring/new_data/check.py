"""Data check: whether so much new data has come since the champion's snapshot that Jenkins is asked for a training."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from continuous_training.data import sources
from continuous_training.documents import Value
from continuous_training.jenkins.ping import Ping, PingResult
from continuous_training.monitoring.new_data import asked, kept
from continuous_training.monitoring.new_data.asked import Asked
from continuous_training.monitoring.new_data.counted import counted
from continuous_training.monitoring.new_data.news import News, news
from continuous_training.registry import model_versions
from continuous_training.registry.connection import clip
from continuous_training.reports.formatting import format_day, format_time
from continuous_training.settings import future_warning, load_settings, parse_as_of, time_windows

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.monitoring.new_data.kept import Watermark
    from continuous_training.settings import Triggers

NAME_LENGTH = 100  # of a connection's in a reason

Verdict = Literal["enough", "asked for", "not enough", "nothing new", "cannot tell"]


class Checked(Value):
    """What was found, and what follows."""

    model: str
    as_of: datetime
    model_version: str | None = None
    verdict: Verdict
    message: str
    notes: list[str] = Field(default_factory=list)
    news: News | None = None
    asking: PingResult | None = None

    @property
    def summary(self) -> str:
        """What a person reads on the console."""
        lines = [f"{self.verdict}: {self.message}", *(f"· {note}" for note in self.notes)]
        return "\n".join([*lines, self.asking.summary] if self.asking else lines)


def check(client: MlflowClient, model: str, jenkins: str, as_of: str = "", because: str = "") -> Checked:
    """Count what has come, and ask Jenkins for a training if that is enough and was not asked for yet.

    Without a champion nobody is asked: there is no version to remember the ping by, so it would be sent at every check
    until one is promoted, and the first training is asked for by a person, a push or the clock anyway.

    Args:
        client: of MLflow.
        model: the model package.
        jenkins: its address, or ping.NO_JENKINS.
        as_of: AS_OF, as a run takes it.
        because: what has brought the data, if that is known.

    Raises:
        UserError: training.yaml, MLflow, what is kept there, the warehouse or its tables are not as they should be.
    """
    settings = load_settings(model)
    stands = parse_as_of(as_of, settings.data.clock)
    window, _, until = time_windows(settings.data, stands)
    blank = Checked(model=model, as_of=stands, verdict="cannot tell", message="")
    champion = model_versions.by_alias(client, model, model_versions.CHAMPION)
    if champion is None:
        message = f"{model} has no champion: the first training is not asked for by new data"
        return blank.model_copy(update={"message": message})
    blank = blank.model_copy(update={"model_version": champion.number})
    then = kept.kept(client, champion)
    if then is None:
        message = f"no watermark is kept with version {champion.number}: whatever Train makes from now on has one"
        return blank.model_copy(update={"message": message})
    if until < then.until:
        message = f"AS_OF={stands:%Y-%m-%d} lies before the champion's: its rows end with {format_day(then.until)}"
        return blank.model_copy(update={"message": message})
    rows = sources.open_source(settings).table(then.since, until)
    now = counted(rows, settings.data, then.until)
    by = kept.counted_by(settings.data)
    found = news(then, now, by, window)
    notes = [
        future_warning(stands, datetime.now(UTC)),
        f"{now.timeless:,} rows have no time and do not count" if now.timeless else None,
        None if by == then.by else "the query or its columns have changed since: late and corrected rows are not told",
        f"{found.gone:,} rows that the champion has learnt from are gone" if found.gone else None,
    ]
    verdict, message = decide(then, found, Asked.of(champion), settings.triggers, stands)
    asking = None
    if verdict == "enough":
        request = Ping(
            trigger="data",
            reason=": ".join(filter(None, [because, found.summary])),
            as_of=as_of.strip() or None,
            model=model,
            model_version=champion.number,
        )
        asking = asked.ask(client, champion, request, found, jenkins)
    told = {"verdict": verdict, "message": message, "notes": [*filter(None, notes)], "news": found, "asking": asking}
    return blank.model_copy(update=told)


def synced(connection: str, rows: int | None) -> str:
    """Say what Airbyte has brought, if a connection of its is named; its name is of whoever made it."""
    name = clip(" ".join(connection.split()), NAME_LENGTH)
    if not name:
        return ""
    return f"Airbyte synced {name}" if rows is None else f"Airbyte synced {rows:,} rows of {name}"


def decide(then: Watermark, new_data: News, before: Asked, limits: Triggers, as_of: datetime) -> tuple[Verdict, str]:
    """Decide whether so much has come beyond what a training was asked for already, and say why."""
    if not new_data.rows:
        return "nothing new", new_data.summary
    if before.at and before.digest == new_data.digest:
        return "asked for", f"{new_data.summary}; a training on these rows was asked for on {format_time(before.at)}"
    more = max(0, new_data.rows - before.rows)
    beyond = f"; {more:,} more than when a training was asked for on {format_time(before.at)}" if before.at else ""
    needed = max(limits.min_new_rows, math.ceil(limits.min_new_share * then.rows))
    if more >= needed:
        return "enough", f"{new_data.summary}{beyond}; {needed:,} are needed"
    age = (as_of - (before.newest or then.newest)) / timedelta(days=1)
    newer = before.newest is None or new_data.newest > before.newest  # late rows that trickle in ask for no second one
    if limits.max_age is not None and age > limits.max_age and newer:
        return "enough", f"{new_data.summary}{beyond}; the newest row that was learnt from is {age:.1f} days old"
    return "not enough", f"{new_data.summary}{beyond}; {needed:,} are needed"
