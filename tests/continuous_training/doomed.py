"""Work in a process of its own that is killed with -9 before one of its calls to MLflow."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow

from continuous_training.documents import Stopwatch
from continuous_training.registry import connection
from continuous_training.settings import load_settings
from continuous_training.stages import deploy, register, roll_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from continuous_training.documents import Candidate, Run, Verdict

WRITES = re.compile("(create|set|update|rename|transition|delete|log)_")
CALLS = Path("calls")
THE_END = "the end"


def live(survives: int, environment: dict[str, str], folder: Path, work: Callable[..., None], *given: Any) -> None:
    """Work, and be killed before the call to MLflow after so many that change something, or else at the end.

    Each call is written down, the one that is not made any more too.
    """
    os.environ.update(environment)
    os.chdir(folder)
    made: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            count(name)
            return real(*args, **named)

        return call

    def count(name: str) -> None:
        made.append(name)
        CALLS.write_text("\n".join(made))
        if len(made) > survives:
            os.kill(os.getpid(), signal.SIGKILL)

    for name in filter(WRITES.match, vars(mlflow.MlflowClient)):
        setattr(mlflow.MlflowClient, name, counted(name, getattr(mlflow.MlflowClient, name)))
    work(*given)
    count(THE_END)


def register_and_deploy(run: Run, candidate: Candidate, verdict: Verdict) -> None:
    client, timer = connection.open_client(), Stopwatch(run.build_tag)
    registered = register.register(client, run, candidate, verdict, timer)
    deploy.deploy(client, run, load_settings(run.model), candidate, registered, verdict, timer)


def roll_back_champion() -> None:
    roll_back.roll_back(connection.open_client(), "toy", "it predicts nonsense", Stopwatch("ct-9"))
