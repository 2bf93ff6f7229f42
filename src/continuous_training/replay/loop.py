"""The replay's loop over the months: each is run, evaluated and stored before the next, so that it can be resumed."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from continuous_training import progress
from continuous_training.data import sources
from continuous_training.errors import UsageError, UserError
from continuous_training.replay import drift_policy, stages, summary, workspace
from continuous_training.replay.evaluation import evaluate_deployments, evaluate_models
from continuous_training.replay.month_results import DriftMonth, MonthResult
from continuous_training.replay.months import MONTH_FORMAT, month_range, next_month
from continuous_training.replay.policies import compare_policies, score_months
from continuous_training.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from continuous_training.replay.policies import ReplayResult
    from continuous_training.settings import Settings

log = logging.getLogger(__name__)

STEPS = len(stages.STAGES) + 1  # of a month


def replay(
    model: str, first: datetime, last: datetime, *, fresh: bool = False, with_drift: bool = True
) -> ReplayResult:
    """Replay the months from the first to the last, except those that an earlier replay finished.

    Args:
        model: the model package.
        first: the first moment of the first month.
        last: the first moment of the last month.
        fresh: discard the finished months.
        with_drift: simulate the policy that retrains on drift, too: a second pass through the same months.

    Raises:
        UserError: the last month has no rows to evaluate on, a stage failed, or no month had a champion.
    """
    if last < first:
        raise UsageError(f"--from {first:{MONTH_FORMAT}} is after --to {last:{MONTH_FORMAT}}")
    settings = load_settings(model)
    _require_rows(settings, last)
    url = workspace.absolute_url(settings.warehouse_url)
    replay_id = workspace.replay_id(model, first, url)
    moments = list(month_range(first, last))
    with workspace.enter_workspace(model, replay_id, url, fresh=fresh) as folder:
        finished_months = workspace.read_months()
        names = [f"{moment:{MONTH_FORMAT}}" for moment in moments]
        months = [finished_months[name] for name in names if name in finished_months]
        if len(months) < len(moments):
            log.info("Replaying in %s, %d of %d months are finished", folder, len(months), len(moments))
            workspace.restore_database(months[-1].run.month if months else None)
        for moment in moments[len(months) :]:
            name = f"{moment:{MONTH_FORMAT}}"
            bar = _ProgressBar(name, len(months) * STEPS, len(moments) * STEPS)
            run = stages.run_stages(moment, bar.step, name=name, reason=f"replay of {name}")
            evaluation = evaluate_models(settings, [*(month.run for month in months), run])  # has progress bars itself
            months.append(MonthResult(run=run, evaluation=evaluation))
            workspace.save_month(months[-1])
            newest = score_months(months, settings.compare)[-1]
            log.info("%s", summary.describe_month(newest, settings.compare.metric))
        if with_drift:
            months = replay_drift_policy(settings, model, url, months)
    return compare_policies(model, months, settings.compare)


def replay_drift_policy(settings: Settings, model: str, url: str, months: Sequence[MonthResult]) -> list[MonthResult]:
    """Simulate the policy that retrains on drift in the same months, from the first champion on."""
    results = [month for month in months if month.evaluation is None]
    remaining = months[len(results) :]
    if not remaining:
        return results
    candidates = {model.name: model for month in remaining for model in month.run.models}
    first, start = candidates[str(remaining[0].run.champion)], remaining[0].run.start
    finished_months = workspace.read_months(drift_policy.FOLDER)
    total = len([*drift_policy.check_times(start, remaining[-1].run.start)])
    database = workspace.MONTHS / f"{remaining[0].run.month}.db"
    for month in remaining:
        name = month.run.month
        if name in finished_months:
            results.append(finished_months[name])
        else:
            earlier = [check for result in results for check in result.checks]
            times = enumerate(drift_policy.check_times(start, month.run.start), start=len(earlier))
            steps = {time: _ProgressBar(f"{time:%Y-%m-%d}", number, total, each=0).step for number, time in times}
            checks, new_database = drift_policy.simulate_month(model, url, database, steps)
            deployments = drift_policy.list_deployments(first, start, [*earlier, *checks])
            gate = candidates[str(month.run.champion)]
            score, differences = evaluate_deployments(settings, month.run.start, gate, deployments)
            drift_month = DriftMonth(checks=checks, score=score, resampled_differences=differences)
            results.append(month.model_copy(update={"drift": drift_month}))
            workspace.save_month(results[-1], drift_policy.FOLDER, new_database)
            log.info("%s", summary.describe_drift_month(results[-1], settings.compare.metric))
        database = drift_policy.FOLDER / f"{name}.db"
    return results


class _ProgressBar:
    """The progress of the whole replay, shown as one bar for each step."""

    def __init__(self, name: str, position: int, total: int, each: int = 1) -> None:
        self._name, self._position, self._total, self._each = name, position, total, each

    @contextmanager
    def step(self, description: str) -> Iterator[None]:
        with progress.bar(f"{self._name}: {description}", self._total) as advance:
            advance(self._position)
            yield
        self._position += self._each


def _require_rows(settings: Settings, last: datetime) -> None:
    """Raise an error before an hour's work if the last month cannot be evaluated: it is not over, or it has no rows."""
    end = next_month(last)
    delay = timedelta(days=settings.data.label_delay_days)
    name = f"{last:{MONTH_FORMAT}}"
    if end + delay > datetime.now(UTC).replace(tzinfo=None):
        raise UsageError(f"{name} cannot be evaluated before {end + delay:%Y-%m-%d}: choose an earlier --to")
    with sources.open_source(settings) as source:
        has_rows = any(batch.num_rows for batch in source.read(last, end))
    if not has_rows:
        raise UserError(f"the warehouse has no rows of {name} to evaluate the models on: choose an earlier --to")
