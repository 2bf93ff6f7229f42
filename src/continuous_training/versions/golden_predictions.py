"""Golden rows: some rows with the answers that the stored model gave offline, for servers to be held against."""

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


def keep(model_uri: str, rows: pd.DataFrame, answers: np.ndarray[Any, Any]) -> None:
    """Log the first rows and their answers to the active MLflow run.

    Args:
        model_uri: the stored model.
        rows: the features, of shape (rows, features).
        answers: what the fitted estimator says of them, of shape (rows, ...).

    Raises:
        UserError: the stored model does not predict what the fitted one does.
    """
    import mlflow.pyfunc  # seconds that neither `ct deploy --help` nor a server's start should take
    import numpy as np
    import pandas as pd

    asked = rows.head(ROWS)
    stored = np.asarray(mlflow.pyfunc.load_model(model_uri).predict(asked))
    if not np.allclose(stored, answers[:ROWS], rtol=0, atol=1e-12):
        raise UserError("the stored model does not predict what the fitted one does: it is not used")
    cells = asked.astype(object).to_numpy().tolist()  # pandas' own JSON would round the last digits
    split = {"columns": list(asked.columns), "data": [[None if pd.isna(one) else one for one in row] for row in cells]}
    mlflow.log_dict({"dataframe_split": split, "predictions": stored.tolist()}, FILE)


def kept(run_id: str) -> tuple[dict[str, Any], list[Any]]:
    """Return the golden rows of an MLflow run, in MLflow's `dataframe_split`, and their answers."""
    import mlflow.artifacts

    found = json.loads(mlflow.artifacts.load_text(f"runs:/{run_id}/{FILE}"))
    return found["dataframe_split"], found["predictions"]
