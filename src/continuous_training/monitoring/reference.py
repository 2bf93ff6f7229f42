"""The reference: the training data's profile and samples, stored in the version's MLflow run when it is compared.

reference/profile.json         nulls, categories and distances of each column, and the metric on the fresh rows
reference/rows.parquet         a sample of the training rows
reference/predictions.parquet  predictions for the fresh rows: it is too confident for those that it was fitted on
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pydantic import AliasChoices, BeforeValidator, Field, ValidationError

from continuous_training.comparison.evaluation import ClassifierPredictions, RegressorPredictions
from continuous_training.documents import Scalar, Value, first_error
from continuous_training.errors import UserError
from continuous_training.monitoring import distances, performance, profile
from continuous_training.monitoring.columns import PREDICTION
from continuous_training.monitoring.performance import MetricEstimate
from continuous_training.monitoring.profile import ColumnProfile
from continuous_training.registry import connection

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.documents import Snapshot
    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings

FOLDER, PROFILE, ROWS, PREDICTIONS = "reference", "profile.json", "rows.parquet", "predictions.parquet"


def _name_prediction(profiles: Any) -> Any:  # noqa: ANN401 - whatever the document has
    """Name the only profile of predictions that earlier releases wrote."""
    return {PREDICTION: profiles} if isinstance(profiles, dict) and "distances" in profiles else profiles


class ReferenceProfile(Value):
    """The profile of a version's training data, without the samples.

    The training rows are those from `since` to `until`, the fresh rows those until `fresh_until`, which old profiles do
    not have. `predictions` has a profile for each of `prediction_columns`. `classes` are a classifier's, in the order
    of its probabilities; `targets` are the columns that are predicted, which old profiles do not have; `baseline` is
    the metric on the fresh rows.
    """

    rows: int
    since: datetime
    until: datetime
    fresh_until: datetime | None = Field(default=None, validation_alias=AliasChoices("fresh_until", "judged_until"))
    window_days: float
    columns: dict[str, ColumnProfile]
    predictions: Annotated[dict[str, ColumnProfile], BeforeValidator(_name_prediction)] = Field(
        validation_alias=AliasChoices("predictions", "prediction")
    )
    classes: list[Scalar] | None
    targets: tuple[str, ...] = ()
    baseline: MetricEstimate | None = Field(validation_alias=AliasChoices("baseline", "measured"))

    @property
    def prediction_type(self) -> Literal["number", "probability", "class"]:
        """What is monitored: a number, the probability of the second of two classes, or the most probable class."""
        if self.classes is None:
            return "number"
        return "probability" if len(self.classes) == 2 else "class"

    @property
    def prediction_columns(self) -> list[str]:
        """The names of the monitored predictions among the columns: one, or one for each of several targets."""
        return [f"{PREDICTION}.{name}" for name in self.targets] if len(self.targets) > 1 else [PREDICTION]

    def monitored_predictions(self, predictions: NDArray[np.float64]) -> pd.DataFrame:
        """Return predictions, of shape (rows, ...), as columns of the monitored type."""
        names = self.prediction_columns
        if self.classes is None:
            return pd.DataFrame(predictions.reshape(len(predictions), len(names)), columns=names)
        if len(self.classes) == 2:
            return pd.DataFrame({PREDICTION: predictions[:, 1]})
        return pd.DataFrame({PREDICTION: [str(self.classes[index]) for index in predictions.argmax(axis=1)]})


@dataclass(frozen=True)
class Reference:
    """The profile of a version's training data, with samples of the training rows and of its predictions."""

    profile: ReferenceProfile
    sample: pd.DataFrame
    predictions: pd.DataFrame


def save_reference(
    client: MlflowClient,
    run_id: str,
    settings: Settings,
    snapshot: Snapshot,
    predictions: Predictions,
    fresh: pd.DataFrame,
) -> None:
    """Log a candidate's reference to its MLflow run.

    Args:
        client: of MLflow.
        run_id: the candidate's run.
        settings: the settings of the model.
        snapshot: the snapshot that the candidate was trained on.
        predictions: its predictions for the fresh rows.
        fresh: the fresh rows in the same order.
    """
    windows = _split_windows(fresh[settings.data.time], settings.monitor.window_days)
    reference_profile = ReferenceProfile(
        rows=snapshot.train.rows,
        since=snapshot.since,
        until=snapshot.fresh_since,
        fresh_until=snapshot.until,
        window_days=settings.monitor.window_days,
        columns=profile.profile_columns(snapshot.train.path, settings),
        predictions={},
        classes=[_to_scalar(label) for label in predictions.classes_]
        if isinstance(predictions, ClassifierPredictions)
        else None,
        targets=settings.data.targets,
        baseline=performance.estimate_metric(predictions, fresh, windows, settings),
    )
    monitored = reference_profile.monitored_predictions(np.asarray(predictions.values))
    profiles = {name: _profile_predictions(monitored[name], windows, reference_profile) for name in monitored}
    reference_profile = reference_profile.model_copy(update={"predictions": profiles})
    sample = monitored.sample(min(len(monitored), settings.monitor.sample_rows), random_state=0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / PROFILE).write_text(reference_profile.model_dump_json(), encoding="utf-8")
        pq.write_table(profile.sample_rows(snapshot.train.path, settings), folder / ROWS)
        sample.to_parquet(folder / PREDICTIONS, index=False)
        client.log_artifacts(run_id, temporary, FOLDER)


def load_reference(client: MlflowClient, version: Version) -> Reference | None:
    """Return the reference of a version, or None if it has none.

    Raises:
        UserError: it exists and cannot be read.
    """
    files = connection.none_if_missing(
        lambda: client.list_artifacts(version.run_id, FOLDER), f"MLflow run {version.run_id}"
    )
    if not files:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        try:
            folder = Path(client.download_artifacts(version.run_id, FOLDER, temporary))
            reference_profile = ReferenceProfile.model_validate_json((folder / PROFILE).read_bytes())
            sample, predictions = (pd.read_parquet(folder / name) for name in (ROWS, PREDICTIONS))
        except ValidationError as error:
            raise UserError(
                f"the reference of version {version.number} has an unsupported format: {first_error(error)}"
            ) from error
        except Exception as error:
            raise UserError(f"the reference of version {version.number} cannot be read: {error}") from error
    return Reference(reference_profile, sample, predictions[reference_profile.prediction_columns])


def _split_windows(times: pd.Series[Any], days: float) -> list[NDArray[np.intp]]:
    """Return the row numbers of each window of so many days, from the first row on; windows of few rows are dropped."""
    period = ((times - times.min()) // pd.Timedelta(days=days)).to_numpy()
    windows = [np.flatnonzero(period == number) for number in np.unique(period)]
    return [rows for rows in windows if len(rows) >= profile.MIN_WINDOW_ROWS]


def _profile_predictions(
    predictions: pd.Series[Any], windows: list[NDArray[np.intp]], reference_profile: ReferenceProfile
) -> ColumnProfile:
    """Return the profile of the predictions, with a distance for each window of the fresh rows."""
    test: distances.DriftTest = "jensenshannon" if reference_profile.prediction_type == "class" else "wasserstein"
    return ColumnProfile(
        test=test,
        null_share=0,
        distances=[distances.distance(test, predictions, predictions.iloc[rows]) for rows in windows],
    )


def _to_scalar(value: Any) -> Scalar:  # noqa: ANN401 - a label of any type
    scalar: Scalar = value.item() if isinstance(value, np.generic) else value
    return scalar


def logged_predictions(rows: pd.DataFrame, champion_reference: Reference) -> Predictions:
    """Return logged predictions in the form in which the comparison scores a model.

    Raises:
        UserError: the log has answers of another version's shape.
    """
    profile = champion_reference.profile
    outputs = len(profile.classes or profile.prediction_columns)
    if wrong := {len(answer) for answer in rows["answers"]} - {outputs}:
        raise UserError(f"the predictions log has answers of {min(wrong)} values, where the version returns {outputs}")
    predictions = np.array(rows["answers"].tolist(), dtype=np.float64)
    if profile.classes is not None:
        return ClassifierPredictions(predictions, np.array(profile.classes))
    return RegressorPredictions(predictions if outputs > 1 else predictions.ravel())
