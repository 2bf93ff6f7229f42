"""A version in memory: its input signature, its typed protocol and its predictions.

A worker loads it with skops alone: MLflow, whose import takes seconds, is needed in the follower only.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import sklearn
import skops.io
import yaml

from continuous_training.errors import UserError
from continuous_training.serving.protocols.errors import RequestError
from continuous_training.serving.protocols.signature import Signature
from continuous_training.serving.protocols.typed_protocol import TypedProtocol
from continuous_training.versions import golden_predictions, loading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from continuous_training.serving.following.assignment import VersionReference


class LoadedVersion:
    """A version that can predict."""

    def __init__(
        self, folder: Path, reference: VersionReference, trusted_types: Sequence[str], keys: Sequence[str]
    ) -> None:
        """Load a version.

        Args:
            folder: what MLflow stored.
            reference: the version.
            trusted_types: the types that skops may load in addition to its own.
            keys: the key columns that requests may have beside the model's columns.

        Raises:
            UserError: it has types that are not trusted, cannot be loaded, or has columns that no request can have.
        """
        self.reference = reference
        name = f"version {reference.number} of {reference.name}"
        try:
            stored = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
            flavor, function = stored["flavors"]["sklearn"], stored["flavors"]["python_function"]
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise UserError(f"{name} is not a scikit-learn model of MLflow's: {error}") from error
        loading.examine_flavor(flavor, trusted_types, name)
        try:
            self._estimator = skops.io.load(folder / flavor["pickled_model"], flavor.get("skops_trusted_types"))
        except Exception as error:
            raise UserError(f"{name} cannot be loaded: {error}") from error
        signature = stored.get("signature") or {}
        self.signature = Signature.from_mlflow(json.loads(signature.get("inputs") or "[]"), keys, name)
        self._function = getattr(self._estimator, function.get("predict_fn", "predict"))
        classes = self._estimator.classes_.tolist() if function.get("predict_fn") == "predict_proba" else None
        outputs = _count_outputs(json.loads(signature.get("outputs") or "[]"))
        self.typed_protocol = TypedProtocol(self.signature, classes, outputs)

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

    def check_golden_predictions(self, rows: dict[str, Any], expected: list[Any]) -> None:
        """Predict the golden rows as a request would, and compare; this also warms up the model.

        Args:
            rows: in MLflow's `dataframe_split`.
            expected: the predictions that the stored model made offline.

        Raises:
            UserError: the predictions differ.
        """
        columns = {name: [row[index] for row in rows["data"]] for index, name in enumerate(rows["columns"])}
        name = f"version {self.number} of {self.reference.name}"
        try:
            golden_rows = self.signature.validate(len(rows["data"]), columns)
        except RequestError as error:
            raise UserError(f"{name} does not accept its golden rows: {error}") from error
        predictions = self.predict(self.signature.to_arrays([golden_rows]))
        if predictions.shape != np.shape(expected) or not np.allclose(
            predictions, expected, rtol=0, atol=golden_predictions.TOLERANCE
        ):
            raise UserError(f"the predictions of {name} for its golden rows differ from those made offline")


def _count_outputs(outputs: list[dict[str, Any]]) -> int | None:
    """Return the number of values in one prediction, by MLflow's output schema; None for a scalar."""
    shape = outputs[0].get("tensor-spec", {}).get("shape", []) if outputs else []
    return shape[1] if len(shape) > 1 else None
