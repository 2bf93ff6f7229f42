"""The policy 'retrain on drift': the monitor checks the warehouse once a week, and the runs that it requests are run.

The policy has a workspace inside the replay's. Its registry starts as the gate's after the first champion and then
evolves separately: a candidate is compared with the champion of this policy.
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
from continuous_training.replay.month_results import WeeklyCheck
from continuous_training.replay.months import next_month
from continuous_training.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from continuous_training.replay.month_results import TrainedModel
    from continuous_training.replay.stages import Step

FOLDER = Path("drift")  # beside the months of the gate
CHECK_INTERVAL_DAYS = 7


def check_times(first: datetime, month: datetime) -> Iterator[datetime]:
    """Yield the times of the checks in a month; the weeks are counted from the first month of the policy."""
    time = first + timedelta(days=CHECK_INTERVAL_DAYS)
    while time < next_month(month):
        if time >= month:
            yield time
        time += timedelta(days=CHECK_INTERVAL_DAYS)


def simulate_month(
    model: str, warehouse_url: str, database: Path, steps: Mapping[datetime, Step]
) -> tuple[list[WeeklyCheck], Path]:
    """Run the checks of a month; return them, and MLflow's database after them.

    Args:
        model: the model package.
        warehouse_url: the warehouse.
        database: MLflow's database before the month.
        steps: the times of the checks, and what shows the progress of each.

    Raises:
        UserError: a check failed, or a stage that never rejects.
    """
    database = database.resolve()
    variables = {"TRIGGER": "drift", ping.TOKEN: "replay"}
    with (
        workspace.enter_workspace(model, FOLDER.name, warehouse_url, fresh=False, extra_variables=variables) as folder,
        ping_receiver.receive_pings() as jenkins,
    ):
        workspace.replace_database(database)
        return [_run_check(model, end, jenkins, step) for end, step in steps.items()], folder / workspace.DATABASE


def list_deployments(
    first: TrainedModel, since: datetime, checks: Sequence[WeeklyCheck]
) -> list[tuple[datetime, TrainedModel]]:
    """Return the policy's champions with the start of their deployment, from the first champion on."""
    runs = [(check.end, check.run) for check in checks if check.run]
    promoted = [(end, run.models[-1]) for end, run in runs if run.models and run.decision == "promoted"]
    return [(since, first), *promoted]


def _run_check(model: str, end: datetime, jenkins: str, step: Step) -> WeeklyCheck:
    """Check the week before a moment as the monitor would have done then, and run what it requests."""
    name = f"{end:%Y-%m-%d}"
    client, settings = connection.open_client(), load_settings(model)
    with step("check for drift"):
        monitor = ModelMonitor(client, model, settings, "warehouse", as_of=end, now=end.replace(tzinfo=UTC))
        report = monitor.check(jenkins, end.isoformat())
    if report.errors:
        raise UserError(f"the monitor could not check the week before {name}: {'; '.join(report.errors)}")
    run = None
    if report.ping_result and report.ping_result.jobs:
        run = stages.run_stages(end, step, name=name, reason=report.ping_result.ping.reason)
    return WeeklyCheck(end=end, verdict=report.decision.verdict, message=report.decision.message, run=run)
