"""Golden predictions: some rows and their offline predictions, which whoever opens the version must reproduce."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

FILE = "golden.json"
ROWS = 50
TOLERANCE = 1e-9  # of numbers up to 1, and relative to larger ones
# A difference of so many steps of the predictions' type is rounding: another processor adds in another order
ROUNDING = 64
MAX_ROUNDING = 0.005  # for float16, of which 64 steps are 6 percent


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


def read_golden_predictions(folder: Path) -> tuple[dict[str, Any], NDArray[Any]]:
    """Return the golden rows of a version as MLflow's `dataframe_split`, and their predictions in their own type.

    Raises:
        UserError: the file is missing or malformed.
    """
    try:
        content = json.loads((folder / FILE).read_bytes())
        rows, predictions = content["dataframe_split"], content["predictions"]
        dtype = np.dtype(content["dtype"])
        golden = np.array(predictions, dtype)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f"{FILE} cannot be read: {error}") from None
    if dtype.kind not in "fiub":
        raise UserError(f"{FILE} cannot be read: its predictions are of type {dtype}, and not numbers")
    return rows, golden


def describe_difference(predictions: ArrayLike, golden: NDArray[Any]) -> str | None:
    """Say how far predictions are from the golden ones, or return None if all differences are rounding.

    Args:
        predictions: of any type of number: a server's have become JSON.
        golden: in the type in which the version predicts, which decides what is rounding.
    """
    values = np.asarray(predictions, dtype=golden.dtype)
    if values.shape != golden.shape or golden.size == 0:
        return f"an array of shape {values.shape} in place of {golden.shape}"
    if golden.dtype.kind != "f":  # exactly: as a float, 2**60 + 1 is 2**60
        differences, limits = np.abs(values.astype(object) - golden.astype(object)), np.zeros(golden.shape)
    else:
        exact = golden.astype(float)
        if not (np.isfinite(values).all() and np.isfinite(exact).all()):
            return "a prediction is not a finite number"
        differences = np.abs(values.astype(float) - exact)
        rounding = min(ROUNDING * float(np.finfo(golden.dtype).eps), MAX_ROUNDING)
        limits = max(TOLERANCE, rounding) * np.maximum(1.0, np.abs(exact))
    if (differences <= limits).all():
        return None
    worst = np.unravel_index(np.argmax(differences / np.maximum(limits, np.finfo(float).tiny)), golden.shape)
    return (
        f"{values[worst]} in place of {golden[worst]}, a difference of {float(differences[worst]):.2g}, where "
        f"{golden.dtype} allows {float(limits[worst]):.2g}"
    )


def _json_cell(cell: Any) -> Any:  # noqa: ANN401 - a value of any column
    return cell.isoformat() if hasattr(cell, "isoformat") else cell
