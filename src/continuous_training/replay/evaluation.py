"""What the models of a replay were worth in the month after they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from continuous_training.comparison import bootstrap, evaluation, slices
from continuous_training.comparison.contest import Contender
from continuous_training.comparison.evaluation import RecordedClassifier, RecordedRegressor
from continuous_training.data.snapshots import read_snapshot
from continuous_training.documents import Run, Stopwatch
from continuous_training.replay.months import Judged, following
from continuous_training.replay.policies import productions
from continuous_training.stages.snapshot import take_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Recorded
    from continuous_training.replay.months import Made, Model
    from continuous_training.settings import Settings


def judge(settings: Settings, made: Sequence[Made]) -> Judged | None:
    """Judge every model made so far on the month that the last of these runs begins; None without a champion.

    Raises:
        UserError: there are no such rows, or a model cannot be loaded or scored.
    """
    chosen = productions(made)[-1]
    if chosen.gate is None:
        return None
    metric = settings.compare.metric
    rows = _rows(settings, made[-1].begins)
    truth = rows[settings.data.target]
    answers = {
        one.candidate.run_id: Contender(one.candidate.uri, settings, rows).recorded for one in made if one.candidate
    }
    draws = {
        str(other): _draws(answers[chosen.gate], answers[str(other)], rows, settings)
        for other in {chosen.never, chosen.always, chosen.other} - {chosen.gate, None}
    }
    scores = {run_id: evaluation.score(metric, recorded, truth) for run_id, recorded in answers.items()}
    return Judged(rows=len(rows), scores=scores, draws=draws)


def judge_changing(
    settings: Settings, month: datetime, gate: Model, reigns: Sequence[tuple[datetime, Model]]
) -> tuple[float, list[float | None]]:
    """Judge models on a month's rows, each on those that came while it was in production.

    Args:
        settings: the settings.
        month: its first moment.
        gate: the model that the gate had in production.
        reigns: models, and since when each was in production: the first of them from the month's beginning at least.

    Returns:
        Their score, and the gate's less that on each resample.

    Raises:
        UserError: there are no such rows, or a model cannot be loaded or scored.
    """
    rows = _rows(settings, month)
    begun = np.array([since for since, _ in reigns], dtype="datetime64[us]")
    place = np.searchsorted(begun, rows[settings.data.time].to_numpy(), side="right") - 1
    answered = [(Contender(reigns[one][1].uri, settings, rows).recorded, place == one) for one in np.unique(place)]
    mixed = _mixed(answered)
    score = evaluation.score(settings.compare.metric, mixed, rows[settings.data.target])
    return score, _draws(Contender(gate.uri, settings, rows).recorded, mixed, rows, settings)


def _mixed(answered: Sequence[tuple[Recorded, NDArray[np.bool_]]]) -> Recorded:
    """Return the answers of each model for its own rows as those of one: the gate let none pass with other classes."""
    first = answered[0][0]
    answers = np.array(first.answers)
    for recorded, own in answered:
        answers[own] = recorded.answers[own]
    if isinstance(first, RecordedClassifier):
        return RecordedClassifier(answers, first.classes_)
    return RecordedRegressor(answers)


def _draws(gate: Recorded, other: Recorded, rows: pd.DataFrame, settings: Settings) -> list[float | None]:
    """Return the gate's score less another one's on each resample; None where there is no score."""
    limits = settings.compare
    found = bootstrap.differences(
        limits.metric,
        gate,
        other,
        rows[settings.data.target],
        resamples=limits.resamples,
        together=slices.together(rows[settings.data.time], limits.resample_by),
    )
    return [None if np.isnan(one) else float(one) for one in found]


def _rows(settings: Settings, month: datetime) -> pd.DataFrame:
    """Fetch the rows of a month: the fresh rows of a snapshot taken at its end."""
    run = Run.read()
    end = following(month)
    data = settings.data.model_copy(update={"label_delay_days": 0, "fresh_days": (end - month).days})
    at_its_end = run.model_copy(update={"as_of": end})
    snapshot = take_snapshot(at_its_end, settings.model_copy(update={"data": data}), Stopwatch(run.build_tag))
    return read_snapshot(snapshot.fresh.path, data)
