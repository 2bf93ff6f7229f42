"""A stored model with its signature, its size and its predictions for some rows."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from continuous_training.comparison import evaluation
from continuous_training.errors import UserError
from continuous_training.versions import loading

if TYPE_CHECKING:
    import pandas as pd

    from continuous_training.comparison.evaluation import Predictions
    from continuous_training.settings import Settings


class StoredModel:
    """A model of the registry and the rows that it predicts."""

    def __init__(self, uri: str, settings: Settings, rows: pd.DataFrame) -> None:
        """Load the model.

        Raises:
            UserError: it cannot be loaded, or was stored without a signature.
        """
        from mlflow.models import Model

        self.estimator = loading.load(uri, settings.model.trusted_types)
        metadata = Model.load(uri)
        if metadata.signature is None:
            raise UserError(f"the model {uri} was stored without a signature: its input columns are unknown")
        self.uri = uri
        self.input_types = {column.name: column.type.name for column in metadata.signature.inputs.inputs}
        self.megabytes = None if metadata.model_size_bytes is None else metadata.model_size_bytes / 1e6
        self.input_columns: list[str] = list(getattr(self.estimator, "feature_names_in_", settings.data.features))
        self.classes = [str(name) for name in getattr(self.estimator, "classes_", ())]
        self._rows = rows
        self._task = settings.model.task

    @cached_property
    def predictions(self) -> Predictions:
        """Its predictions for the rows.

        Raises:
            UserError: the prediction fails.
        """
        try:
            return evaluation.predict(self.estimator, self._rows[self.input_columns], self._task)
        except Exception as error:  # whatever the estimator of the team's package raises
            raise UserError(f"the model {self.uri} cannot predict the rows: {error}") from error

    @cached_property
    def _first_row(self) -> pd.DataFrame:
        return self._rows.loc[self._rows.index[:1], self.input_columns]

    def predict_first_row(self) -> object:
        """Predict a single row, to measure the latency."""
        return evaluation.predict(self.estimator, self._first_row, self._task)
