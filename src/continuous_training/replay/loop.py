"""Month after month: each is run, judged and kept before the next begins, so that a killed replay can go on."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from continuous_training import progress
from continuous_training.data import sources
from continuous_training.errors import UsageError, UserError
from continuous_training.replay import drift_policy as drift
from continuous_training.replay import stages, workspace
from continuous_training.replay import summary as words
from continuous_training.replay.evaluation import judge, judge_changing
from continuous_training.replay.months import PATTERN, Month, OnDrift, between, following
from continuous_training.replay.policies import compare, lines
from continuous_training.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from continuous_training.replay.policies import Result
    from continuous_training.settings import Settings

log = logging.getLogger(__name__)

STEPS = len(stages.STAGES) + 1


def replay(model: str, first: datetime, last: datetime, *, fresh: bool = False, on_drift: bool = True) -> Result:
    """Replay the months from the first to the last, those apart that an earlier replay has finished.

    Args:
        model: the model package.
        first: the first moment of the first month.
        last: that of the last.
        fresh: begin anew.
        on_drift: follow the policy that retrains on drift too, through the same months once more.

    Raises:
        UserError: there are no rows to judge the last month by, a stage failed, or no month had a champion.
    """
    if last < first:
        raise UsageError(f"--from {first:{PATTERN}} is after --to {last:{PATTERN}}")
    settings = load_settings(model)
    _see_rows(settings, last)
    url = workspace.absolute(settings.warehouse_url)
    name = workspace.identity(model, first, url)
    moments = list(between(first, last))
    with workspace.entered(model, name, url, fresh=fresh) as folder:
        kept = workspace.finished()
        months = [kept[month] for month in (f"{moment:{PATTERN}}" for moment in moments) if month in kept]
        if len(months) < len(moments):
            log.info("Replaying in %s, %d of %d months are done", folder, len(months), len(moments))
            workspace.restore(months[-1].made.month if months else None)
        for moment in moments[len(months) :]:
            called = f"{moment:{PATTERN}}"
            steps = _Steps(called, len(months) * STEPS, len(moments) * STEPS)
            made = stages.run(moment, steps.step, name=called, reason=f"replay of {called}")
            judged = judge(settings, [*(month.made for month in months), made])  # shows bars of its own
            months.append(Month(made=made, judged=judged))
            workspace.keep(months[-1])
            log.info("%s", words.told(lines(months, settings.compare)[-1]))
        if on_drift:
            months = retrained_on_drift(settings, model, url, months)
    return compare(model, months, settings.compare)


def retrained_on_drift(settings: Settings, model: str, url: str, months: Sequence[Month]) -> list[Month]:
    """Live through the same months with the policy that retrains on drift, from the first champion on."""
    found = [month for month in months if month.judged is None]
    lived = months[len(found) :]
    if not lived:
        return found
    champions = {one.made.candidate.run_id: one.made.candidate for one in lived if one.made.candidate}
    first, begins = champions[str(lived[0].made.champion)], lived[0].made.begins
    kept = workspace.finished(drift.KEPT)
    total = len([*drift.ends(begins, lived[-1].made.begins)])
    before = workspace.MONTHS / f"{lived[0].made.month}.db"
    for month in lived:
        name = month.made.month
        if name in kept:
            found.append(kept[name])
        else:
            weeks = [week for one in found for week in one.weeks]
            looks = enumerate(drift.ends(begins, month.made.begins), start=len(weeks))
            steps = {end: _Steps(f"{end:%Y-%m-%d}", done, total, each=0).step for done, end in looks}
            then, database = drift.live(model, url, before, steps)
            reigns = drift.reigns(first, begins, [*weeks, *then])
            score, draws = judge_changing(settings, month.made.begins, champions[str(month.made.champion)], reigns)
            found.append(month.model_copy(update={"drifted": OnDrift(weeks=then, score=score, draws=draws)}))
            workspace.keep(found[-1], drift.KEPT, database)
            log.info("%s", words.told_of_drift(found[-1]))
        before = drift.KEPT / f"{name}.db"
    return found


class _Steps:
    """Shows how far the replay is, and at what: a bar of all there is to do for each step, as long as that takes."""

    def __init__(self, name: str, done: int, total: int, each: int = 1) -> None:
        self._name, self._done, self._total, self._each = name, done, total, each

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        with progress.bar(f"{self._name}: {what}", self._total) as advance:
            advance(self._done)
            yield
        self._done += self._each


def _see_rows(settings: Settings, last: datetime) -> None:
    """See that the last month is over and has rows, before an hour's work finds out that it cannot be judged."""
    end = following(last)
    delay = timedelta(days=settings.data.label_delay_days)
    if end + delay > datetime.now(UTC).replace(tzinfo=None):
        raise UsageError(f"{last:{PATTERN}} cannot be judged before {end + delay:%Y-%m-%d}: choose an earlier --to")
    with sources.open_source(settings) as source:
        has_rows = any(batch.num_rows for batch in source.read(last, end))
    if not has_rows:
        raise UserError(f"there are no rows of {last:{PATTERN}} to judge its model by: choose an earlier --to")
