"""The reference: what a version learnt, kept with its MLflow run, for the monitor to hold the present against.

reference/profile.json         of every column its nulls, values and distances; the metric when it was promoted
reference/rows.parquet         a sample of the training rows
reference/predictions.parquet  what it said of the fresh rows: of those that it was fitted on it is surer than of others
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pydantic import ValidationError

from continuous_training.comparison.evaluation import RecordedClassifier
from continuous_training.documents import Scalar, Value, first_error
from continuous_training.errors import UserError
from continuous_training.monitoring import distances, performance, profile
from continuous_training.monitoring.asked import PREDICTION
from continuous_training.monitoring.performance import Measured
from continuous_training.monitoring.profile import Profile
from continuous_training.registry import connection

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Recorded
    from continuous_training.documents import Snapshot
    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings

FOLDER, FILE, ROWS, PREDICTIONS = "reference", "profile.json", "rows.parquet", "predictions.parquet"


class Learnt(Value):
    """What a version learnt, without the samples. `classes` are a classifier's, in the order of its answers.

    It was trained on rows before `until`, and judged by fresh ones before `judged_until`, which older ones do not tell.
    """

    rows: int
    since: datetime
    until: datetime
    judged_until: datetime | None = None
    window_days: float
    columns: dict[str, Profile]
    prediction: Profile
    classes: list[Scalar] | None
    measured: Measured | None

    @property
    def predicts(self) -> Literal["number", "probability", "class"]:
        """What an answer is looked at as: of two classes the second one's probability, of more the likeliest."""
        if self.classes is None:
            return "number"
        return "probability" if len(self.classes) == 2 else "class"

    def recorded_as(self, answers: NDArray[np.float64]) -> pd.Series[Any]:
        """Return answers, of shape (rows, ...), as they are looked at."""
        if self.classes is None:
            return pd.Series(answers.ravel())
        if len(self.classes) == 2:
            return pd.Series(answers[:, 1])
        return pd.Series([str(self.classes[place]) for place in answers.argmax(axis=1)])


@dataclass(frozen=True)
class Reference:
    """What a version learnt, with samples of its training rows and of its predictions."""

    learnt: Learnt
    sample: pd.DataFrame
    predictions: pd.Series[Any]


def keep(
    client: MlflowClient, run_id: str, settings: Settings, snapshot: Snapshot, recorded: Recorded, fresh: pd.DataFrame
) -> None:
    """Log what a candidate learnt to its MLflow run.

    Args:
        client: of MLflow.
        run_id: the candidate's run.
        settings: the settings.
        snapshot: the snapshot that it was trained on.
        recorded: what it says of the fresh rows.
        fresh: these rows, in the same order.
    """
    truth, times = fresh[settings.data.target], fresh[settings.data.time]
    windows = _windows(times, settings.monitor.window_days)
    worth = performance.measured(recorded, truth, times, windows, settings.compare)
    learnt = Learnt(
        rows=snapshot.train.rows,
        since=snapshot.since,
        until=snapshot.fresh_since,
        judged_until=snapshot.until,
        window_days=settings.monitor.window_days,
        columns=profile.profiles(snapshot.train.path, settings),
        prediction=Profile(test="wasserstein", null_share=0, distances=[]),
        classes=[_scalar(one) for one in recorded.classes_] if isinstance(recorded, RecordedClassifier) else None,
        measured=worth,
    )
    message = learnt.recorded_as(np.asarray(recorded.answers))
    learnt = learnt.model_copy(update={"prediction": _profile(message, windows, learnt)})
    few = message.sample(min(len(message), settings.monitor.sample_rows), random_state=0)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / FILE).write_text(learnt.model_dump_json(), encoding="utf-8")
        pq.write_table(profile.sample(snapshot.train.path, settings), folder / ROWS)
        few.to_frame(PREDICTION).to_parquet(folder / PREDICTIONS, index=False)
        client.log_artifacts(run_id, made, FOLDER)


def kept(client: MlflowClient, version: Version) -> Reference | None:
    """Return what a version learnt, or None if nothing was kept of it.

    Raises:
        UserError: it is there and cannot be read.
    """
    found = connection.none_if_missing(
        lambda: client.list_artifacts(version.run_id, FOLDER), f"MLflow run {version.run_id}"
    )
    if not found:
        return None
    with tempfile.TemporaryDirectory() as made:
        try:
            folder = Path(client.download_artifacts(version.run_id, FOLDER, made))
            learnt = Learnt.model_validate_json((folder / FILE).read_bytes())
            sample, predictions = (pd.read_parquet(folder / name) for name in (ROWS, PREDICTIONS))
        except ValidationError as error:
            raise UserError(
                f"the reference of version {version.number} is of another make: {first_error(error)}"
            ) from error
        except Exception as error:
            raise UserError(f"the reference of version {version.number} cannot be read: {error}") from error
    return Reference(learnt, sample, predictions[PREDICTION])


def _windows(times: pd.Series[Any], days: float) -> list[NDArray[np.intp]]:
    """Return the rows of each window of so many days, from the first row on; too few rows make none."""
    period = ((times - times.min()) // pd.Timedelta(days=days)).to_numpy()
    found = [np.flatnonzero(period == one) for one in np.unique(period)]
    return [rows for rows in found if len(rows) >= profile.LEAST_ROWS]


def _profile(message: pd.Series[Any], windows: list[NDArray[np.intp]], learnt: Learnt) -> Profile:
    """Profile the predictions by the windows of the fresh rows."""
    test: distances.Test = "jensenshannon" if learnt.predicts == "class" else "wasserstein"
    return Profile(
        test=test, null_share=0, distances=[distances.between(test, message, message.iloc[rows]) for rows in windows]
    )


def _scalar(value: Any) -> Scalar:  # noqa: ANN401 - a label of any type
    plain: Scalar = value.item() if isinstance(value, np.generic) else value
    return plain
