"""A version in memory: what it asks for, how clients of either protocol reach it, and its answers.

A worker loads it with skops alone: MLflow, which takes seconds to import, stays with the follower.
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
from continuous_training.serving.protocols.signature import Refused, Signature
from continuous_training.serving.protocols.typed_protocol import Typed
from continuous_training.versions import golden_predictions, loading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from continuous_training.serving.following.assignment import Copy


class Served:
    """A version, ready to answer."""

    def __init__(self, folder: Path, copy: Copy, trusted: Sequence[str], keys: Sequence[str]) -> None:
        """Load a version from its folder.

        Args:
            folder: what MLflow stored of it.
            copy: of the registered model's version.
            trusted: the types that skops may load beside its own.
            keys: columns that name a row, which requests may have beside the model's.

        Raises:
            UserError: it is not to be trusted, cannot be loaded, or asks for what no client can send.
        """
        self.copy = copy
        what = f"version {copy.number} of {copy.name}"
        try:
            stored = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
            flavor, function = stored["flavors"]["sklearn"], stored["flavors"]["python_function"]
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise UserError(f"{what} is no scikit-learn model of MLflow's: {error}") from error
        loading.examine_flavor(flavor, trusted, what)
        try:
            self._estimator = skops.io.load(folder / flavor["pickled_model"], flavor.get("skops_trusted_types"))
        except Exception as error:
            raise UserError(f"{what} cannot be loaded: {error}") from error
        signature = stored.get("signature") or {}
        self.signature = Signature.of(json.loads(signature.get("inputs") or "[]"), keys, what)
        self._function = getattr(self._estimator, function.get("predict_fn", "predict"))
        classes = self._estimator.classes_.tolist() if function.get("predict_fn") == "predict_proba" else None
        self.typed = Typed(self.signature, classes, _width(json.loads(signature.get("outputs") or "[]")))

    @property
    def number(self) -> str:
        """The version's number."""
        return self.copy.number

    def answer(self, columns: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Call the model.

        Args:
            columns: an array of shape (rows,) for each column of the signature, as `Signature.arrays` makes them.

        Returns:
            Of shape (rows,) or (rows, outputs).

        Raises:
            Exception: whatever the model raises.
        """
        frame = pd.DataFrame(columns, copy=False)
        with sklearn.config_context(skip_parameter_validation=True):  # the estimator's own, which were checked in fit
            answers = np.asarray(self._function(frame))
        if len(answers) != len(frame):
            raise UserError(f"version {self.number} gives {len(answers)} answers for {len(frame)} rows")
        return answers

    def try_out(self, rows: dict[str, Any], expected: list[Any]) -> None:
        """Have the golden rows answered, on the way that requests take; this warms the model too.

        Raises:
            UserError: it answers otherwise than offline.
        """
        columns = {name: [row[place] for row in rows["data"]] for place, name in enumerate(rows["columns"])}
        what = f"version {self.number} of {self.copy.name}"
        try:
            asked = self.signature.rows(len(rows["data"]), columns)
        except Refused as error:
            raise UserError(f"{what} refuses its golden rows: {error}") from error
        answers = self.answer(self.signature.arrays([asked]))
        if answers.shape != np.shape(expected) or not np.allclose(
            answers, expected, rtol=0, atol=golden_predictions.TOLERANCE
        ):
            raise UserError(f"{what} answers otherwise than offline: it does not serve")


def _width(outputs: list[dict[str, Any]]) -> int | None:
    """Return how many numbers an answer has, by MLflow's schema of the outputs; None for a plain one."""
    shape = outputs[0].get("tensor-spec", {}).get("shape", []) if outputs else []
    return shape[1] if len(shape) > 1 else None
