"""Past failures of a model: rows that a person has remembered, and what must hold of the predictions for them.

They are files in tests/<model>/past_failures/, which are reviewed and committed as tests are. A candidate must pass
them as it passes its behaviour tests.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import AwareDatetime, Field, ValidationError

from continuous_training.comparison import evaluation
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.data.snapshots import ARROW_TYPES, to_frame
from continuous_training.documents import Check, Line, Value, first_error
from continuous_training.errors import UserError
from continuous_training.settings import TESTS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from continuous_training.settings import Settings
    from continuous_training.versions.opening import OpenVersion

MAX_ROWS = 1000  # in a file, which a person reviews


class Expectation(Value):
    """What must hold of the predictions: for at least `min_share` of the rows, one of two conditions.

    In a classification the label is the most probable class or, with `min_probability`, has at least that probability.
    In a regression no target differs from its label by more than `max_error`.
    """

    min_probability: float | None = Field(default=None, gt=0, le=1)
    max_error: float | None = Field(default=None, ge=0)
    min_share: float = Field(default=1, gt=0, le=1)

    def holds(self, predictions: evaluation.Predictions, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Return for which rows the condition holds, of shape (rows,): for none with a class that the model lacks.

        Args:
            predictions: for the rows.
            labels: what is expected, of shape (rows,) or (rows, targets).

        Raises:
            UserError: the model predicts another number of targets.
        """
        if isinstance(predictions, evaluation.ClassifierPredictions):
            names = [str(name) for name in predictions.classes_]
            is_label = np.array([[str(label) == name for name in names] for label in labels])
            probabilities = np.where(is_label, predictions.values, -1.0).max(axis=1)
            limit = predictions.values.max(axis=1) if self.min_probability is None else self.min_probability
            return np.asarray(probabilities >= limit)
        evaluation.check_targets(predictions, GroundTruth.of_labels(labels))
        errors = np.abs(predictions.values - labels.astype(np.float64)).reshape(len(labels), -1)
        return np.asarray(errors.max(axis=1) <= (self.max_error or 0))


class PastFailure(Value):
    """Rows on which a model has failed: who remembers them, why, and where they are from.

    `rows` have the values of `columns`: the features, the key and the target, or what is expected in its place.
    """

    reason: Line
    by: Line | None
    at: AwareDatetime
    where: str
    since: datetime
    until: datetime
    expectation: Expectation
    columns: list[str]
    rows: list[list[Any]] = Field(min_length=1, max_length=MAX_ROWS)

    def render(self) -> str:
        """Return the text of its file, with a line for each row: a person reviews it."""
        document = self.model_dump(mode="json")
        rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in document.pop("rows"))
        head = json.dumps(document, indent=1, ensure_ascii=False).removesuffix("\n}")
        return f'{head},\n "rows": [\n{rows}\n ]\n}}\n'

    def table(self, settings: Settings) -> pa.Table:
        """Return the rows, in the types of training.yaml.

        Raises:
            UserError: a column is missing, or has values of another type.
        """
        data = settings.data
        if missing := [name for name in (*data.features, *data.targets) if name not in self.columns]:
            raise UserError(f"its rows have no column {', '.join(missing)}")
        values = dict(zip(self.columns, zip(*self.rows, strict=True), strict=True))
        arrays = {}
        for name, column in values.items():
            if name in data.columns:
                try:
                    arrays[name] = _to_arrow(column, ARROW_TYPES[data.columns[name].type])
                except (pa.ArrowException, TypeError, ValueError) as error:
                    raise UserError(f"its column {name} does not fit its type in training.yaml: {error}") from error
        return pa.table(arrays)


def folder(model: str) -> Path:
    """Return the folder of a model's past failures."""
    return TESTS / model / "past_failures"


def read_all(model: str) -> dict[str, PastFailure]:
    """Return a model's past failures by name.

    Raises:
        UserError: a file is malformed.
    """
    return {path.stem: read(path) for path in sorted(folder(model).glob("*.json"))}


def read(path: Path) -> PastFailure:
    """Read a file.

    Raises:
        UserError: it is malformed.
    """
    try:
        return PastFailure.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path} is not a past failure: {first_error(error)}") from error


def check(model: str, version: OpenVersion, settings: Settings) -> list[Check]:
    """Check a version's predictions for the past failures of its model.

    Raises:
        UserError: one has not what the version or the settings need: it has to be remembered again.
    """
    results = []
    for name, failure in read_all(model).items():
        try:
            results.append(check_failure(failure, version, settings))
        except UserError as error:
            path = folder(model) / f"{name}.json"
            raise UserError(
                f"{path} cannot be checked: {error}; remember the rows again, or remove the file"
            ) from error
    return results


def check_failure(failure: PastFailure, version: OpenVersion, settings: Settings) -> Check:
    """Check a version's predictions for one past failure.

    Raises:
        UserError: its rows have not what the version or the settings need.
    """
    rows, process = to_frame(failure.table(settings), settings.data), version.process
    columns = process.columns or list(settings.data.features)
    if missing := [name for name in columns if name not in rows]:
        raise UserError(f"its rows have no column {', '.join(missing)}, which the version needs")
    targets = len(settings.data.targets)
    predictions = evaluation.as_predictions(process.predict(rows[columns]), process.classes, targets)
    holds = failure.expectation.holds(predictions, rows[settings.data.target].to_numpy())
    required = math.ceil(round(failure.expectation.min_share * len(holds), 6))
    passed = int(holds.sum()) >= required
    message = f"it holds for {holds.sum():,} of {len(holds):,} rows, {required:,} are required"
    if not passed:
        first = rows.iloc[int(np.flatnonzero(~holds)[0])]
        key = ", ".join(f"{name}={first[name]}" for name in settings.data.key if name in rows)
        message += f"; it does not for {key}" if key else ""
    return Check(name=f"past failure: {failure.reason}", passed=passed, message=message)


def _to_arrow(values: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array([None if value is None else datetime.fromisoformat(value) for value in values], kind)
    return pa.array(values, kind)
