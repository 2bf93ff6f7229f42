"""Drift: how far each column and the predictions have moved, by Evidently on samples that fit into memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from continuous_training.monitor import distances
from continuous_training.monitor.asked import PREDICTION
from continuous_training.monitor.finding import Drift
from continuous_training.problem import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from continuous_training.monitor.profile import Profile
    from continuous_training.monitor.reference import Reference
    from continuous_training.settings import Settings

PREDICTIONS = "the predictions"  # their name among the columns


@dataclass(frozen=True)
class Seen:
    """How far everything lies from what was learnt, and Evidently's own account of it."""

    drifts: list[Drift]
    account: Any

    def write(self, path: Path) -> None:
        """Write Evidently's page, which has scripts in it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.account.save_html(str(path))


def look(reference: Reference, window: pd.DataFrame, given: Settings, null_shares: dict[str, float]) -> Seen | None:
    """Measure every column that has values in both; None if there is none.

    Args:
        reference: what was learnt.
        window: a sample of what is asked now, as the reference is.
        given: the settings.
        null_shares: of each column, counted in all rows.
    """
    profiles = _profiles(reference, window, given)
    if not profiles:
        return None
    before = pd.concat([reference.sample, reference.predictions], axis=1)[[*profiles]]
    now = window[[*profiles]].copy()
    for name, profile in profiles.items():
        if profile.test == "jensenshannon":  # categories, or numbers that are looked at as such
            before[name], now[name] = _texts(before[name]), _texts(now[name])
    limits = _limits(profiles, given, before, now)
    account = _account(before, now, {name: (profile.test, limits[name]) for name, profile in profiles.items()})
    found = {one["config"]["column"]: float(one["value"]) for one in account.dict()["metrics"]}
    drifts = [
        Drift(
            name=PREDICTIONS if name == PREDICTION else name,
            test=profile.test,
            distance=max(found[name], 0.0),
            limit=limits[name],
            null_share=null_shares.get(name, 0.0),
            learnt_null_share=profile.null_share,
        )
        for name, profile in profiles.items()
    ]
    return Seen(drifts, account)


def _profiles(reference: Reference, window: pd.DataFrame, given: Settings) -> dict[str, Profile]:
    """Return what was learnt of everything that can be measured, by the test that training.yaml asks for now."""
    found: dict[str, Profile] = {}
    for name in (*given.data.features, PREDICTION):
        predicted = name == PREDICTION
        profile = reference.learnt.prediction if predicted else reference.learnt.columns.get(name)
        known = reference.predictions if predicted else reference.sample.get(name)
        if profile is None or known is None or name not in window or not known.count() or not window[name].count():
            continue
        if not predicted and (test := given.monitor.of(name, given.data.columns[name].type).test) != profile.test:
            profile = profile.model_copy(update={"test": test, "distances": []})
        found[name] = profile
    return found


def _limits(profiles: dict[str, Profile], given: Settings, before: pd.DataFrame, now: pd.DataFrame) -> dict[str, float]:
    """Return how far each may lie: `distances` says what the three parts of this are."""
    learnt = {name: profile.measured for name, profile in profiles.items() if name != PREDICTION and profile.distances}
    times = distances.factor(learnt, given.monitor.false_alarms)
    found = {}
    for name, profile in profiles.items():
        asked = given.monitor.predictions if name == PREDICTION else _threshold(name, given)
        chance = distances.by_chance(profile.test, before[name], int(now[name].count()))
        found[name] = max(asked, times * distances.usual(profile.measured)) + chance
    return found


def _threshold(name: str, given: Settings) -> float:
    return given.monitor.of(name, given.data.columns[name].type).threshold


def _texts(values: pd.Series[Any]) -> pd.Series[Any]:
    return values.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value), na_action="ignore")


def _account(before: pd.DataFrame, now: pd.DataFrame, asked: dict[str, tuple[distances.Test, float]]) -> Any:  # noqa: ANN401
    """Let Evidently measure; it takes seconds to import.

    Raises:
        Problem: it cannot.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    numbers = [name for name, (test, _) in asked.items() if test == "wasserstein"]
    others = [name for name in asked if name not in numbers]
    described = DataDefinition(numerical_columns=numbers, categorical_columns=others)
    report = Report([ValueDrift(column=name, method=test, threshold=limit) for name, (test, limit) in asked.items()])
    try:
        current, learnt = (Dataset.from_pandas(frame, data_definition=described) for frame in (now, before))
        return report.run(current, learnt)
    except Exception as error:
        raise Problem(f"Evidently cannot measure these rows: {type(error).__name__}: {error}") from error
