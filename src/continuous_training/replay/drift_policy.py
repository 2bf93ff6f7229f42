"""The policy «retrain on drift»: the monitor looks once a week, and what it asks for is run.

It has a workspace of its own within the replay's. Its registry begins as the gate's was after the first champion, and
goes its own way: a candidate is judged against the champion of this policy.
"""

from __future__ import annotations

from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.errors import UserError
from continuous_training.jenkins import ping
from continuous_training.monitoring.monitor import ModelMonitor
from continuous_training.registry import connection
from continuous_training.replay import ping_receiver, stages, workspace
from continuous_training.replay.months import Week, following
from continuous_training.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from continuous_training.replay.months import Model
    from continuous_training.replay.stages import Step

KEPT = Path("drift")  # beside the months of the gate
DAYS = 7  # between two looks


def ends(first: datetime, month: datetime) -> Iterator[datetime]:
    """Yield the ends of the weeks in a month, counted from the first month of the policy."""
    end = first + timedelta(days=DAYS)
    while end < following(month):
        if end >= month:
            yield end
        end += timedelta(days=DAYS)


def live(model: str, url: str, before: Path, looks: Mapping[datetime, Step]) -> tuple[list[Week], Path]:
    """Live through the weeks that end at these moments; return them, and MLflow's database as it then is.

    Args:
        model: the model package.
        url: the warehouse.
        before: MLflow's database as it was before.
        looks: when the monitor looks, and what shows how far that is.

    Raises:
        UserError: the monitor could not look, or a stage failed that never refuses.
    """
    before = before.resolve()
    also = {"TRIGGER": "drift", ping.TOKEN: "replay"}
    with (
        workspace.entered(model, KEPT.name, url, fresh=False, also=also) as folder,
        ping_receiver.listening() as jenkins,
    ):
        workspace.put_back(before)
        return [_look(model, end, jenkins, step) for end, step in looks.items()], folder / workspace.DATABASE


def reigns(first: Model, since: datetime, weeks: Sequence[Week]) -> list[tuple[datetime, Model]]:
    """Return the models that were in production until now, and since when, from the first one on."""
    runs = [(week.end, week.made) for week in weeks if week.made]
    won = [(end, made.candidate) for end, made in runs if made.candidate and made.decision == "promoted"]
    return [(since, first), *won]


def _look(model: str, end: datetime, jenkins: str, step: Step) -> Week:
    """Examine the week before a moment, as the monitor would then have done, and run what it asks for."""
    name = f"{end:%Y-%m-%d}"
    client, settings = connection.open_client(), load_settings(model)
    with step("look for drift"):
        monitor = ModelMonitor(client, model, settings, "warehouse", as_of=end, now=end.replace(tzinfo=UTC))
        found = monitor.check(jenkins, end.isoformat())
    if found.errors:
        raise UserError(f"the monitor could not look at the week before {name}: {'; '.join(found.errors)}")
    made = None
    if found.ping_result and found.ping_result.jobs:
        made = stages.run(end, step, name=name, reason=found.ping_result.ping.reason)
    return Week(end=end, verdict=found.decision.verdict, message=found.decision.message, made=made)
