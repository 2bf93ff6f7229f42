"""Drift: the distance of each column and of the predictions from the reference, and whether it exceeds its limit.

Both sides are samples that fit into memory. The distances equal Evidently's (a test compares them), so its report shows
the same numbers. Evidently is imported only to write that report, which takes longer than everything else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import AliasChoices, Field

from continuous_training.documents import Value
from continuous_training.errors import UserError
from continuous_training.monitoring import distances
from continuous_training.monitoring.columns import PREDICTION
from continuous_training.monitoring.distances import DriftTest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from continuous_training.monitoring.profile import ColumnProfile
    from continuous_training.monitoring.reference import Reference, ReferenceProfile
    from continuous_training.settings import Settings

PREDICTIONS = "the predictions"  # their name among the columns; of several targets that of each: "… of bikes"


class ColumnDrift(Value):
    """The distance of a column, or of the predictions, from the reference, and its limit."""

    name: str
    test: DriftTest
    distance: float
    limit: float
    null_share: float
    reference_null_share: float = Field(validation_alias=AliasChoices("reference_null_share", "learnt_null_share"))
    drifted: bool = Field(default=False, validation_alias=AliasChoices("drifted", "moved"))

    @property
    def ratio(self) -> float:
        """The distance divided by its limit."""
        return self.distance / self.limit


@dataclass(frozen=True)
class DriftResult:
    """The drift of all columns, and the two samples that it was computed from."""

    drifts: list[ColumnDrift]
    reference: pd.DataFrame
    current: pd.DataFrame

    def write_evidently_report(self, path: Path) -> None:
        """Write Evidently's report, an HTML page with scripts. Its import takes seconds.

        Raises:
            UserError: Evidently fails.
        """
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        by_column = dict(zip(self.reference.columns, self.drifts, strict=True))
        numbers = [name for name, drift in by_column.items() if drift.test == "wasserstein"]
        categories = [name for name in by_column if name not in numbers]
        definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
        report = Report(
            [ValueDrift(column=name, method=drift.test, threshold=drift.limit) for name, drift in by_column.items()]
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            current, reference = (
                Dataset.from_pandas(frame, data_definition=definition) for frame in (self.current, self.reference)
            )
            report.run(current, reference).save_html(str(path))
        except Exception as error:
            raise UserError(f"Evidently's report failed: {type(error).__name__}: {error}") from error


def measure_drift(
    reference: Reference, window: pd.DataFrame, settings: Settings, null_shares: dict[str, float]
) -> DriftResult | None:
    """Compare every column that has values on both sides; return None if there is none.

    Args:
        reference: the profile and the samples of the training data.
        window: a sample of the window, with the same column types.
        settings: the settings of the model.
        null_shares: the share of nulls of each column, counted in all rows of the window.
    """
    profiles = _comparable_profiles(reference, window, settings)
    if not profiles:
        return None
    before = pd.concat([reference.sample, reference.predictions], axis=1)[[*profiles]]
    after = window[[*profiles]].copy()
    for name, profile in profiles.items():
        if profile.test == "jensenshannon":  # categories, or numbers that are compared as categories
            before[name], after[name] = _as_text(before[name]), _as_text(after[name])
    limits = compute_limits(profiles, settings, before, after, reference.profile.prediction_columns)
    drifts = [
        ColumnDrift(
            name=_drift_name(name, reference.profile),
            test=profile.test,
            distance=distances.distance(profile.test, before[name], after[name]),
            limit=limits[name],
            null_share=null_shares.get(name, 0.0),
            reference_null_share=profile.null_share,
        )
        for name, profile in profiles.items()
    ]
    return DriftResult(drifts, before, after)


def is_of_predictions(name: str) -> bool:
    """Whether the name of a drift is that of the predictions, or of the predictions of one of several targets."""
    return name == PREDICTIONS or name.startswith(f"{PREDICTIONS} of ")


def _drift_name(column: str, profile: ReferenceProfile) -> str:
    if column == PREDICTION:
        return PREDICTIONS
    if column in profile.prediction_columns:
        return f"{PREDICTIONS} of {column.removeprefix(f'{PREDICTION}.')}"
    return column


def compute_limits(
    profiles: dict[str, ColumnProfile],
    settings: Settings,
    before: pd.DataFrame,
    after: pd.DataFrame,
    predictions: Sequence[str] = (PREDICTION,),
) -> dict[str, float]:
    """Return the limit of each column; the module `distances` describes its three parts.

    Args:
        profiles: of the columns.
        settings: the settings of the model.
        before: the reference's sample of the columns.
        after: the window's sample of the columns.
        predictions: those of the columns that are predictions.
    """
    window_distances = {
        name: profile.window_distances
        for name, profile in profiles.items()
        if name not in predictions and profile.distances
    }
    factor = distances.limit_factor(window_distances, settings.monitor.false_alarms)
    limits = {}
    for name, profile in profiles.items():
        threshold = settings.monitor.predictions if name in predictions else _threshold(name, settings)
        noise = distances.sampling_noise(profile.test, before[name], int(after[name].count()))
        usual = factor * distances.mean_distance(profile.window_distances)
        limits[name] = math.hypot(max(threshold, usual), noise)
    return limits


def _comparable_profiles(reference: Reference, window: pd.DataFrame, settings: Settings) -> dict[str, ColumnProfile]:
    """Return the profiles of the columns that have values on both sides, with the test that training.yaml has now."""
    profiles: dict[str, ColumnProfile] = {}
    predictions = reference.profile.prediction_columns
    for name in (*settings.data.features, *predictions):
        is_prediction = name in predictions
        profile = (reference.profile.predictions if is_prediction else reference.profile.columns).get(name)
        values = (reference.predictions if is_prediction else reference.sample).get(name)
        if profile is None or values is None or name not in window or not values.count() or not window[name].count():
            continue
        if not is_prediction:
            test = settings.monitor.measure_of(name, settings.data.columns[name].type).test
            if test != profile.test:  # the distances of another test cannot be compared
                profile = profile.model_copy(update={"test": test, "distances": []})
        profiles[name] = profile
    return profiles


def _threshold(name: str, settings: Settings) -> float:
    return settings.monitor.measure_of(name, settings.data.columns[name].type).threshold


def _as_text(values: pd.Series[Any]) -> pd.Series[Any]:
    return values.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value), na_action="ignore")
