"""Training as processes on this machine, one after another."""

from __future__ import annotations

import json
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
    from collections.abc import Sequence

    from continuous_training.compute import Trial
    from continuous_training.documents import Run, Snapshot


def train(run: Run, snapshot: Snapshot, trials: Sequence[Trial]) -> None:
    """Run MLproject's entry point `train` for each trial and wait for it. It logs to the trial's MLflow run.

    Raises:
        UserError: the entry point failed. Later trials are not started.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for trial in trials:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "outcome.json")
            os.environ[OUTCOME_VARIABLE] = str(path)
            is_complete = _run(run, snapshot, trial)
            outcome = read_outcome(path)
        if outcome.peak_memory_mb:
            connection.open_client().log_metric(trial.run_id, PEAK_MEMORY, outcome.peak_memory_mb)
        if not is_complete:
            raise UserError(f"the training failed with {trial}: {outcome.error or 'see its output above'}")


def _run(run: Run, snapshot: Snapshot, trial: Trial) -> bool:
    """Run the entry point, and return whether it succeeded."""
    import mlflow.projects
    from mlflow.exceptions import ExecutionException

    try:
        mlflow.projects.run(  # type: ignore[no-untyped-call]
            ".",
            entry_point="train",
            parameters={
                "model": run.model,
                "snapshot": str(snapshot.train.path.parent),
                "parameters": json.dumps(trial.parameters),
            },
            env_manager="local",
            run_id=trial.run_id,
        )
    except ExecutionException:
        return False
    return True
