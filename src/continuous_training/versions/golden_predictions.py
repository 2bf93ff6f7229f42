"""Golden predictions: some rows and their offline predictions, which every server must reproduce."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FILE = "golden.json"
ROWS = 50
TOLERANCE = 1e-9  # golden predictions travel as JSON, which keeps 15 digits


def log_golden_predictions(model_uri: str, rows: pd.DataFrame, predictions: np.ndarray[Any, Any]) -> None:
    """Log the first rows and their predictions to the active MLflow run.

    Args:
        model_uri: the stored model.
        rows: the features, of shape (rows, features).
        predictions: of the fitted estimator, of shape (rows, ...).

    Raises:
        UserError: the stored model does not predict what the fitted one does.
    """
    import mlflow.pyfunc  # takes seconds, which `ct deploy --help` and a server's start should not pay
    import numpy as np
    import pandas as pd

    head = rows.head(ROWS)
    stored = np.asarray(mlflow.pyfunc.load_model(model_uri).predict(head))
    if not np.allclose(stored, predictions[:ROWS], rtol=0, atol=1e-12):
        raise UserError("the stored model does not predict what the fitted one does: it is not used")
    cells = head.astype(object).to_numpy().tolist()  # pandas' JSON rounds the last digits
    split = {
        "columns": list(head.columns),
        "data": [[None if pd.isna(cell) else cell for cell in row] for row in cells],
    }
    mlflow.log_dict({"dataframe_split": split, "predictions": stored.tolist()}, FILE)


def read_golden_predictions(run_id: str) -> tuple[dict[str, Any], list[Any]]:
    """Return the golden rows of an MLflow run in MLflow's format `dataframe_split`, and their predictions."""
    import mlflow.artifacts

    content = json.loads(mlflow.artifacts.load_text(f"runs:/{run_id}/{FILE}"))
    return content["dataframe_split"], content["predictions"]
