"""Training as a process on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.problem import Problem

if TYPE_CHECKING:
    from continuous_training.documents import Run, Snapshot


def train(run: Run, taken: Snapshot, run_id: str) -> None:
    """Run MLproject's entry point `train` to its end, logging to the MLflow run `run_id`.

    Raises:
        Problem: the entry point failed; its own words are on standard error, above.
    """
    import mlflow.projects
    from mlflow.exceptions import ExecutionException

    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    try:
        mlflow.projects.run(  # type: ignore[no-untyped-call]
            ".",
            entry_point="train",
            parameters={"model": run.model, "snapshot": str(taken.train.path.parent)},
            env_manager="local",
            run_id=run_id,
        )
    except ExecutionException as error:
        raise Problem("the training entry point failed: its last lines are above") from error
