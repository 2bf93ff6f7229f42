"""Training as processes on this machine, one after another."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.compute import Trial
    from continuous_training.documents import Run, Snapshot


def train(run: Run, snapshot: Snapshot, trials: Sequence[Trial]) -> None:
    """Run MLproject's entry point `train` for each trial and wait for it. It logs to the trial's MLflow run.

    Raises:
        UserError: the entry point failed; its output is on standard error. Later trials are not started.
    """
    import mlflow.projects
    from mlflow.exceptions import ExecutionException

    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for trial in trials:
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
        except ExecutionException as error:
            raise UserError(f"the training entry point failed with {trial}: see its output above") from error
