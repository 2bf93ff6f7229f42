"""Training as a process on this machine."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.compute import PEAK_MEMORY
from continuous_training.compute.supervision import OUTCOME_VARIABLE, read_outcome
from continuous_training.errors import UserError
from continuous_training.registry import connection

if TYPE_CHECKING:
    from continuous_training.documents import Run, Snapshot


def train(run: Run, snapshot: Snapshot, run_id: str) -> None:
    """Run MLproject's entry point `train` and wait for it. It logs to the MLflow run.

    Raises:
        UserError: it failed.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "outcome.json")
        os.environ[OUTCOME_VARIABLE] = str(path)
        is_complete = _run(run, snapshot, run_id)
        outcome = read_outcome(path)
    if outcome.peak_memory_mb:
        connection.open_client().log_metric(run_id, PEAK_MEMORY, outcome.peak_memory_mb)
    if not is_complete:
        raise UserError(f"the training failed: {outcome.error or 'see its output above'}")


def _run(run: Run, snapshot: Snapshot, run_id: str) -> bool:
    """Run the entry point, and return whether it succeeded."""
    import mlflow.projects
    from mlflow.exceptions import ExecutionException

    try:
        mlflow.projects.run(  # type: ignore[no-untyped-call]
            ".",
            entry_point="train",
            parameters={"model": run.model, "snapshot": str(snapshot.train.path.parent)},
            env_manager="local",
            run_id=run_id,
        )
    except ExecutionException:
        return False
    return True
