"""A stored model with its signature, its size and its predictions for some rows."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from continuous_training.comparison import evaluation
from continuous_training.errors import UserError
from continuous_training.versions.examination import Policy
from continuous_training.versions.opening import open_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.settings import Settings
    from continuous_training.versions.opening import OpenVersion


class StoredModel:
    """A model of the registry and the rows that it predicts, with its own code and in its own process."""

    def __init__(
        self,
        uri: str,
        version: OpenVersion,
        settings: Settings,
        rows: pd.DataFrame,
        classes: NDArray[Any] | None = None,
    ) -> None:
        self.uri = uri
        self._version = version
        self._settings = settings
        self.manifest = version.manifest
        self.input_types = {str(column["name"]): str(column["type"]) for column in version.manifest.inputs}
        self.megabytes = version.manifest.megabytes
        self.input_columns: list[str] = version.process.columns or list(settings.data.features)
        self.targets = version.manifest.targets
        self._selection = classes
        self._classes = version.process.classes if classes is None else classes
        self._process = version.process
        self._rows = rows

    @property
    def classes(self) -> list[str]:
        """The names of its classes; none of a regression."""
        return [] if self._classes is None else [str(name) for name in self._classes]

    def common_classes(self, other: StoredModel) -> NDArray[Any]:
        """Return the classes that another model knows too, in this model's order."""
        if self._classes is None or other._classes is None:
            return np.array([])
        return self._classes[np.isin(self._classes, other._classes)]

    def among(self, classes: NDArray[Any], rows: pd.DataFrame) -> StoredModel:
        """Return the model as one of some of its classes only, for rows that are known to be of these."""
        return StoredModel(self.uri, self._version, self._settings, rows, classes)

    @cached_property
    def predictions(self) -> Predictions:
        """Its predictions for the rows.

        Raises:
            UserError: the prediction fails.
        """
        if missing := [name for name in self.input_columns if name not in self._rows]:
            raise UserError(f"the model {self.uri} cannot predict the rows: they have no column {', '.join(missing)}")
        return self.predict(self._rows)

    def predict(self, rows: pd.DataFrame) -> Predictions:
        """Return its predictions for other rows, which have its input columns.

        Raises:
            UserError: the prediction fails.
        """
        parts = [self._predict(part)[0] for part in evaluation.split_rows(rows[self.input_columns])]
        return evaluation.concatenate(parts)

    @cached_property
    def _first_row(self) -> pd.DataFrame:
        return self._rows.loc[self._rows.index[:1], self.input_columns]

    def time_first_row(self) -> float:
        """Predict a single row, and return the seconds that the model takes."""
        return self._predict(self._first_row)[1]

    def _predict(self, rows: pd.DataFrame) -> tuple[Predictions, float]:
        try:
            predictions, seconds = self._process.predict_with_duration(rows)
            targets = max(1, len(self.targets))  # a version that does not name them has one
            result = evaluation.as_predictions(predictions, self._process.classes, targets)
        except UserError as error:
            raise UserError(f"the model {self.uri} cannot predict the rows: {error}") from error
        if isinstance(result, evaluation.ClassifierPredictions) and self._selection is not None:
            result = result.among(self._selection)
        return result, seconds


@contextmanager
def open_model(uri: str, run_id: str, model: str, settings: Settings, rows: pd.DataFrame) -> Iterator[StoredModel]:
    """Open a stored model, and check that it predicts what it did when it was made.

    Args:
        uri: its address in the registry.
        run_id: the MLflow run that made it.
        model: the registered model.
        settings: the settings of the model.
        rows: the rows that it will predict.

    Raises:
        UserError: it cannot be opened, or predicts something else.
    """
    with open_version(uri, Policy(model, settings.model), run_id) as version:
        try:
            version.check_golden_predictions()
        except UserError as error:
            raise UserError(f"the model {uri} is not as it was made: {error}") from error
        yield StoredModel(uri, version, settings, rows)
