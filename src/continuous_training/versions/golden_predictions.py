"""Golden predictions: some rows and their offline predictions, which whoever opens the version must reproduce."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

FILE = "golden.json"
ROWS = 50
TOLERANCE = 1e-9  # golden predictions travel as JSON, which keeps 15 digits


def write_golden_predictions(folder: Path, rows: pd.DataFrame, predictions: NDArray[Any]) -> None:
    """Write golden predictions into a version's folder.

    Args:
        folder: the version's folder.
        rows: the features, of shape (rows, features).
        predictions: of the stored estimator, of shape (rows, ...).
    """
    import pandas as pd

    cells = rows.astype(object).to_numpy().tolist()  # pandas' JSON rounds the last digits
    split = {
        "columns": list(rows.columns),
        "data": [[None if pd.isna(cell) else _json_cell(cell) for cell in row] for row in cells],
    }
    content = {"dataframe_split": split, "predictions": predictions.tolist(), "dtype": predictions.dtype.name}
    (folder / FILE).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def read_golden_predictions(folder: Path) -> tuple[dict[str, Any], list[Any]]:
    """Return the golden rows of a version in MLflow's format `dataframe_split`, and their predictions.

    Raises:
        UserError: the file is missing or malformed.
    """
    try:
        content = json.loads((folder / FILE).read_bytes())
        return content["dataframe_split"], content["predictions"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{FILE} cannot be read: {error}") from None


def largest_difference(predictions: NDArray[Any], expected: list[Any]) -> float:
    """Return the largest absolute difference of predictions from the golden ones; infinite if the shapes differ."""
    golden = np.asarray(expected, dtype=float)
    if predictions.shape != golden.shape or golden.size == 0:
        return float("inf")
    difference = float(np.max(np.abs(np.asarray(predictions, dtype=float) - golden)))
    return float("inf") if np.isnan(difference) else difference


def _json_cell(cell: Any) -> Any:  # noqa: ANN401 - a value of any column
    return cell.isoformat() if hasattr(cell, "isoformat") else cell
