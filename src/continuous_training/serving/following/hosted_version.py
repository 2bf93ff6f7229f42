"""A version in memory: its input signature, its typed protocol and its predictions.

A worker loads it without MLflow, whose import takes seconds: only the follower needs that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import sklearn

from continuous_training.errors import UserError
from continuous_training.serving.protocols.errors import RequestError
from continuous_training.serving.protocols.signature import Signature
from continuous_training.serving.protocols.typed_protocol import TypedProtocol
from continuous_training.versions import examination, golden_predictions
from continuous_training.versions.estimator import open_estimator
from continuous_training.versions.manifest import ESTIMATOR

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from continuous_training.serving.following.assignment import VersionReference
    from continuous_training.versions.examination import Policy


class LoadedVersion:
    """A version that can predict."""

    def __init__(self, folder: Path, reference: VersionReference, policy: Policy, keys: Sequence[str]) -> None:
        """Examine and load a version.

        Args:
            folder: its files.
            reference: the version.
            policy: which versions may be served.
            keys: the key columns that requests may have beside the model's columns.

        Raises:
            UserError: it is not as it was signed, contains something that is not trusted, cannot be loaded, or has
                columns that no request can have.
        """
        self.reference = reference
        self._folder = folder
        name = f"version {reference.number} of {reference.name}"
        try:
            manifest = examination.examine(folder, policy, reference.run_id)
            self._estimator = open_estimator(folder / ESTIMATOR, examination.trust(manifest))
            self._function = getattr(self._estimator, manifest.method)
            classes = self._estimator.classes_.tolist() if manifest.task == "classification" else None
        except (UserError, AttributeError) as error:
            raise UserError(f"{name} cannot be loaded: {error}") from error
        self.signature = Signature.from_mlflow(manifest.inputs, keys, name)
        self.typed_protocol = TypedProtocol(self.signature, classes, _count_outputs(manifest.outputs))

    @property
    def number(self) -> str:
        """The version's number."""
        return self.reference.number

    def predict(self, columns: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Call the model.

        Args:
            columns: an array of shape (rows,) for each column of the signature, as `Signature.to_arrays` returns them.

        Returns:
            Of shape (rows,) or (rows, outputs).

        Raises:
            Exception: whatever the model raises.
        """
        frame = pd.DataFrame(columns, copy=False)
        with sklearn.config_context(skip_parameter_validation=True):  # the parameters were validated in fit
            predictions = np.asarray(self._function(frame))
        if len(predictions) != len(frame):
            raise UserError(f"version {self.number} returns {len(predictions)} predictions for {len(frame)} rows")
        return predictions

    def check_golden_predictions(self) -> None:
        """Predict the golden rows as a request would, and compare; this also warms up the model.

        Raises:
            UserError: the predictions differ from those that were made offline.
        """
        rows, expected = golden_predictions.read_golden_predictions(self._folder)
        columns = {name: [row[index] for row in rows["data"]] for index, name in enumerate(rows["columns"])}
        name = f"version {self.number} of {self.reference.name}"
        try:
            golden_rows = self.signature.validate(len(rows["data"]), columns)
        except RequestError as error:
            raise UserError(f"{name} does not accept its golden rows: {error}") from error
        predictions = self.predict(self.signature.to_arrays([golden_rows]))
        if golden_predictions.largest_difference(predictions, expected) > golden_predictions.TOLERANCE:
            raise UserError(f"the predictions of {name} for its golden rows differ from those made offline")


def _count_outputs(outputs: list[dict[str, Any]]) -> int | None:
    """Return the number of values in one prediction, by MLflow's output schema; None for a scalar."""
    shape = outputs[0].get("tensor-spec", {}).get("shape", []) if outputs else []
    return shape[1] if len(shape) > 1 else None
