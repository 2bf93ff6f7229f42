"""Month after month: each is run, judged and kept before the next begins, so that a killed replay can go on."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from continuous_training import progress, settings, warehouse
from continuous_training.problem import Misuse, Problem
from continuous_training.replay import stages, words, workspace
from continuous_training.replay.judging import judge
from continuous_training.replay.months import PATTERN, Month, between, following
from continuous_training.replay.policies import compare, lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from continuous_training.replay.policies import Result
    from continuous_training.settings import Settings

log = logging.getLogger(__name__)

STEPS = len(stages.STAGES) + 1


def replay(model: str, first: datetime, last: datetime, *, fresh: bool = False) -> Result:
    """Replay the months from the first to the last, those apart that an earlier replay has finished.

    Raises:
        Problem: there are no rows to judge the last month by, a stage failed, or no month had a champion.
    """
    if last < first:
        raise Misuse(f"--from {first:{PATTERN}} is after --to {last:{PATTERN}}")
    given = settings.load(model)
    _see_rows(given, last)
    url = workspace.absolute(given.warehouse_url)
    name = workspace.identity(model, first, url)
    moments = list(between(first, last))
    with workspace.entered(model, name, url, fresh=fresh) as folder:
        kept = workspace.finished()
        months = [kept[month] for month in (f"{moment:{PATTERN}}" for moment in moments) if month in kept]
        if len(months) < len(moments):
            log.info("Replaying in %s, %d of %d months are done", folder, len(months), len(moments))
            workspace.restore(months[-1].made.month if months else None)
        for moment in moments[len(months) :]:
            steps = _Steps(f"{moment:{PATTERN}}", len(months) * STEPS, len(moments) * STEPS)
            name = f"{moment:{PATTERN}}"
            made = stages.run(moment, steps.step, name=name, reason=f"replay of {name}")
            judged = judge(given, [*(month.made for month in months), made])  # shows bars of its own
            months.append(Month(made=made, judged=judged))
            workspace.keep(months[-1])
            log.info("%s", words.told(lines(months, given.compare)[-1]))
    return compare(model, months, given.compare)


class _Steps:
    """Shows how far the replay is, and at what: a bar of all months' steps for each step, as long as that takes."""

    def __init__(self, month: str, done: int, total: int) -> None:
        self._month, self._done, self._total = month, done, total

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        with progress.bar(f"{self._month}: {what}", self._total) as advance:
            advance(self._done)
            yield
        self._done += 1


def _see_rows(given: Settings, last: datetime) -> None:
    """See that the last month is over and has rows, before an hour's work finds out that it cannot be judged."""
    end = following(last)
    delay = timedelta(days=given.data.label_delay_days)
    if end + delay > datetime.now(UTC).replace(tzinfo=None):
        raise Misuse(f"{last:{PATTERN}} cannot be judged before {end + delay:%Y-%m-%d}: choose an earlier --to")
    source = warehouse.connect(given)
    found = warehouse.rows(source, given.data.query, last, end).count().to_pyarrow().as_py()
    source.disconnect()
    if not found:
        raise Problem(f"there are no rows of {last:{PATTERN}} to judge its model by: choose an earlier --to")
