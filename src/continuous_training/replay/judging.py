"""What the models of a replay were worth in the month after they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from continuous_training import snapshot
from continuous_training.comparison import bootstrap, evaluation, slices
from continuous_training.comparison.contest import Contender
from continuous_training.documents import Run, Stopwatch
from continuous_training.replay.months import Judged, following
from continuous_training.replay.policies import productions

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from continuous_training.replay.months import Made
    from continuous_training.settings import Settings


def judge(given: Settings, made: Sequence[Made]) -> Judged | None:
    """Judge every model made so far on the month that the last of these runs begins; None without a champion.

    Raises:
        Problem: there are no such rows, or a model cannot be loaded or scored.
    """
    chosen = productions(made)[-1]
    if chosen.gate is None:
        return None
    limits = given.compare
    rows = _rows(given)
    truth = rows[given.data.target]
    answers = {
        one.candidate.run_id: Contender(one.candidate.uri, given, rows).recorded for one in made if one.candidate
    }
    together = slices.together(rows[given.data.time], limits.resample_by)
    draws = {}
    for other in {chosen.never, chosen.always, chosen.other} - {chosen.gate, None}:
        found = bootstrap.differences(
            limits.metric,
            answers[chosen.gate],
            answers[str(other)],
            truth,
            resamples=limits.resamples,
            together=together,
        )
        draws[str(other)] = [None if np.isnan(one) else float(one) for one in found]
    scores = {run_id: evaluation.score(limits.metric, recorded, truth) for run_id, recorded in answers.items()}
    return Judged(rows=len(rows), scores=scores, draws=draws)


def _rows(given: Settings) -> pd.DataFrame:
    """Fetch the rows of the month that the run's AS_OF begins: the fresh rows of a snapshot taken at its end."""
    run = Run.read()
    end = following(run.as_of)
    data = given.data.model_copy(update={"label_delay_days": 0, "fresh_days": (end - run.as_of).days})
    at_its_end = run.model_copy(update={"as_of": end})
    taken = snapshot.take(at_its_end, given.model_copy(update={"data": data}), Stopwatch(run.build_tag))
    return snapshot.read(taken.fresh.path, data)
