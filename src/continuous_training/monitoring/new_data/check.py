"""The new-data check: whether enough data arrived since the champion's snapshot to request a training."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from continuous_training.comparison.fresh_days import choose_fresh_days
from continuous_training.data import sources
from continuous_training.documents import Value
from continuous_training.formatting import format_day, format_time
from continuous_training.jenkins.ping import Ping, PingResult
from continuous_training.monitoring.new_data.changes import DataChanges, find_changes
from continuous_training.monitoring.new_data.ping_state import PingState, request_training
from continuous_training.monitoring.new_data.row_counts import count_rows
from continuous_training.monitoring.new_data.watermark import hash_query, load_watermark
from continuous_training.registry import looks, model_versions
from continuous_training.registry.connection import clip
from continuous_training.settings import future_warning, load_settings, parse_as_of, time_windows

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.monitoring.new_data.watermark import Watermark
    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Triggers

MAX_NAME_LENGTH = 100  # characters of an Airbyte connection's name in a reason

Verdict = Literal["enough", "already requested", "not enough", "nothing new", "unknown"]


class NewDataCheck(Value):
    """The result of the check; `ping_result` is the outcome of the ping if a training was due."""

    model: str
    as_of: datetime
    model_version: str | None = None
    verdict: Verdict
    message: str
    notes: list[str] = Field(default_factory=list)
    changes: DataChanges | None = None
    ping_result: PingResult | None = None

    @property
    def summary(self) -> str:
        """The text for the console."""
        lines = [f"{self.verdict}: {self.message}", *(f"· {note}" for note in self.notes)]
        return "\n".join([*lines, self.ping_result.summary] if self.ping_result else lines)


def check_new_data(client: MlflowClient, model: str, jenkins: str, as_of: str = "", origin: str = "") -> NewDataCheck:
    """Count the changes since the champion's snapshot, and ping Jenkins if they are enough and were not reported yet.

    Without a champion no ping is sent: there is no version to store the ping with, so that each check would send one
    until a version is promoted. A person, a push or the schedule starts the first training anyway.

    Args:
        client: of MLflow.
        model: the model package.
        jenkins: the controller's address, or `ping.NO_JENKINS`.
        as_of: AS_OF as text, which may be empty.
        origin: what loaded the data, for the reason of the run; may be empty.

    Raises:
        UserError: training.yaml is invalid, or MLflow, the watermark, the warehouse or its tables cannot be read.
    """
    settings = load_settings(model)
    end = parse_as_of(as_of, settings.data.clock)
    until = end - timedelta(days=settings.data.label_delay_days)
    fresh_days = choose_fresh_days(settings, lambda: looks.find(client, model), until).days
    window_start, *_ = time_windows(settings.data, end, fresh_days)
    unknown = NewDataCheck(model=model, as_of=end, verdict="unknown", message="")
    champion = model_versions.by_alias(client, model, model_versions.CHAMPION)
    if champion is None:
        message = f"{model} has no champion: new data do not start the first training"
        return unknown.model_copy(update={"message": message})
    unknown = unknown.model_copy(update={"model_version": champion.number})
    watermark = load_watermark(client, champion)
    if watermark is None:
        message = _explain_missing_watermark(client, champion)
        return unknown.model_copy(update={"message": message})
    if until < watermark.until:
        message = f"AS_OF={end:%Y-%m-%d} is before the end of the champion's snapshot, {format_day(watermark.until)}"
        return unknown.model_copy(update={"message": message})
    with sources.open_source(settings) as source:
        counts = count_rows(source.table(watermark.since, until), settings.data, watermark.until)
    query_hash = hash_query(settings.data)
    changes = find_changes(watermark, counts, query_hash, window_start)
    notes = [
        future_warning(end, datetime.now(UTC)),
        f"{counts.without_time:,} rows have no time and do not count" if counts.without_time else None,
        None
        if query_hash == watermark.query_hash
        else "the query or its columns have changed: late and corrected rows cannot be counted",
        f"{changes.deleted_rows:,} rows of the champion's snapshot were deleted" if changes.deleted_rows else None,
    ]
    verdict, message = decide(watermark, changes, PingState.of(champion), settings.triggers, end)
    outcome = None
    if verdict == "enough":
        request = Ping(
            trigger="data",
            reason=": ".join(filter(None, [origin, changes.summary])),
            as_of=as_of.strip() or None,
            model=model,
            model_version=champion.number,
        )
        outcome = request_training(client, champion, request, changes, jenkins)
    return NewDataCheck(
        model=model,
        as_of=end,
        model_version=champion.number,
        verdict=verdict,
        message=message,
        notes=[note for note in notes if note],
        changes=changes,
        ping_result=outcome,
    )


def _explain_missing_watermark(client: MlflowClient, champion: Version) -> str:
    if model_versions.run_tags(client, champion) is None:
        lost = f"MLflow run {champion.run_id} of version {champion.number} no longer exists, nor do its row counts"
        return f"{lost}: new data are not counted until the next promotion"
    return f"version {champion.number} has no watermark: versions trained from now on have one"


def describe_sync(connection: str, rows: int | None) -> str:
    """Return what Airbyte synced, for the reason of a run; its connection's name may contain anything."""
    name = clip(" ".join(connection.split()), MAX_NAME_LENGTH)
    if not name:
        return ""
    return f"Airbyte synced {name}" if rows is None else f"Airbyte synced {rows:,} rows of {name}"


def decide(
    watermark: Watermark, changes: DataChanges, last_ping: PingState, limits: Triggers, as_of: datetime
) -> tuple[Verdict, str]:
    """Decide whether the changes since the last ping are enough for a training; return the verdict and its reason."""
    if not changes.rows:
        return "nothing new", changes.summary
    if last_ping.sent_at and last_ping.digest == changes.digest:
        request = f"a training on these rows was requested on {format_time(last_ping.sent_at)}"
        return "already requested", f"{changes.summary}; {request}"
    additional_rows = max(0, changes.rows - last_ping.rows)
    beyond = (
        f"; {additional_rows:,} more than at the request of {format_time(last_ping.sent_at)}"
        if last_ping.sent_at
        else ""
    )
    min_rows = max(limits.min_new_rows, math.ceil(limits.min_new_share * watermark.rows))
    if additional_rows >= min_rows:
        return "enough", f"{changes.summary}{beyond}; {min_rows:,} are needed"
    age = (as_of - (last_ping.newest or watermark.newest)) / timedelta(days=1)
    has_newer = last_ping.newest is None or changes.newest > last_ping.newest  # late rows alone send no second ping
    if limits.max_age is not None and age > limits.max_age and has_newer:
        return "enough", f"{changes.summary}{beyond}; the newest row of the last training data is {age:.1f} days old"
    return "not enough", f"{changes.summary}{beyond}; {min_rows:,} are needed"
