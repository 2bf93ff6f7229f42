"""Drift: how far each column and the predictions have moved, on samples that fit into memory.

The distances are Evidently's own (a test holds them against it), so its account of what has moved shows the same
numbers; it is imported only to give that account, which takes longer than all else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from continuous_training.errors import UserError
from continuous_training.monitoring import distances
from continuous_training.monitoring.asked import PREDICTION
from continuous_training.monitoring.finding import Drift

if TYPE_CHECKING:
    from pathlib import Path

    from continuous_training.monitoring.profile import Profile
    from continuous_training.monitoring.reference import Reference
    from continuous_training.settings import Settings

PREDICTIONS = "the predictions"  # their name among the columns


@dataclass(frozen=True)
class Seen:
    """How far everything lies from what was learnt, and the two samples that tell it."""

    drifts: list[Drift]
    before: pd.DataFrame
    now: pd.DataFrame

    def write(self, path: Path) -> None:
        """Write Evidently's account of it: a page with scripts in it. Evidently takes seconds to import.

        Raises:
            UserError: it gives none.
        """
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        measured = dict(zip(self.before.columns, self.drifts, strict=True))
        numbers = [name for name, one in measured.items() if one.test == "wasserstein"]
        others = [name for name in measured if name not in numbers]
        described = DataDefinition(numerical_columns=numbers, categorical_columns=others)
        report = Report(
            [ValueDrift(column=name, method=one.test, threshold=one.limit) for name, one in measured.items()]
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            now, learnt = (Dataset.from_pandas(frame, data_definition=described) for frame in (self.now, self.before))
            report.run(now, learnt).save_html(str(path))
        except Exception as error:
            raise UserError(f"Evidently gives no account of these rows: {type(error).__name__}: {error}") from error


def look(reference: Reference, window: pd.DataFrame, settings: Settings, null_shares: dict[str, float]) -> Seen | None:
    """Measure every column that has values in both; None if there is none.

    Args:
        reference: what was learnt.
        window: a sample of what is asked now, as the reference is.
        settings: the settings.
        null_shares: of each column, counted in all rows.
    """
    profiles = _profiles(reference, window, settings)
    if not profiles:
        return None
    before = pd.concat([reference.sample, reference.predictions], axis=1)[[*profiles]]
    now = window[[*profiles]].copy()
    for name, profile in profiles.items():
        if profile.test == "jensenshannon":  # categories, or numbers that are looked at as such
            before[name], now[name] = _texts(before[name]), _texts(now[name])
    limits = _limits(profiles, settings, before, now)
    drifts = [
        Drift(
            name=PREDICTIONS if name == PREDICTION else name,
            test=profile.test,
            distance=distances.between(profile.test, before[name], now[name]),
            limit=limits[name],
            null_share=null_shares.get(name, 0.0),
            learnt_null_share=profile.null_share,
        )
        for name, profile in profiles.items()
    ]
    return Seen(drifts, before, now)


def _profiles(reference: Reference, window: pd.DataFrame, settings: Settings) -> dict[str, Profile]:
    """Return what was learnt of everything that can be measured, by the test that training.yaml asks for now."""
    found: dict[str, Profile] = {}
    for name in (*settings.data.features, PREDICTION):
        predicted = name == PREDICTION
        profile = reference.learnt.prediction if predicted else reference.learnt.columns.get(name)
        known = reference.predictions if predicted else reference.sample.get(name)
        if profile is None or known is None or name not in window or not known.count() or not window[name].count():
            continue
        if not predicted:
            test = settings.monitor.measure_of(name, settings.data.columns[name].type).test
            if test != profile.test:
                profile = profile.model_copy(update={"test": test, "distances": []})
        found[name] = profile
    return found


def _limits(
    profiles: dict[str, Profile], settings: Settings, before: pd.DataFrame, now: pd.DataFrame
) -> dict[str, float]:
    """Return how far each may lie: `distances` says what the three parts of this are."""
    learnt = {name: profile.measured for name, profile in profiles.items() if name != PREDICTION and profile.distances}
    times = distances.factor(learnt, settings.monitor.false_alarms)
    found = {}
    for name, profile in profiles.items():
        asked = settings.monitor.predictions if name == PREDICTION else _threshold(name, settings)
        chance = distances.by_chance(profile.test, before[name], int(now[name].count()))
        found[name] = math.hypot(max(asked, times * distances.usual(profile.measured)), chance)
    return found


def _threshold(name: str, settings: Settings) -> float:
    return settings.monitor.measure_of(name, settings.data.columns[name].type).threshold


def _texts(values: pd.Series[Any]) -> pd.Series[Any]:
    return values.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value), na_action="ignore")
