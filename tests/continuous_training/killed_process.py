"""Work in a process that is killed with -9 before one of its calls to MLflow."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow

from continuous_training.documents import Stopwatch
from continuous_training.registry import connection, model_versions
from continuous_training.serving.rollout.client import read_server_urls, read_status
from continuous_training.settings import load_settings
from continuous_training.stages import deploy, register, roll_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from continuous_training.documents import Candidate, Refit, Run, Verdict

WRITES = re.compile("(create|set|update|rename|transition|delete|log)_")
CALLS = Path("calls")
THE_END = "the end"
SECONDS = 60  # for the server to follow


def work_until_killed(
    completed: int, environment: dict[str, str], folder: Path, work: Callable[..., None], *arguments: Any
) -> None:
    """Work, and be killed after so many calls that change something in MLflow, or at the end.

    All calls are recorded, including the one that is not executed.
    """
    os.environ.update(environment)
    os.chdir(folder)
    calls: list[str] = []

    def record_calls(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            record(name)
            return real(*args, **keywords)

        return call

    def record(name: str) -> None:
        calls.append(name)
        CALLS.write_text("\n".join(calls))
        if len(calls) > completed:
            os.kill(os.getpid(), signal.SIGKILL)

    for name in filter(WRITES.match, vars(mlflow.MlflowClient)):
        setattr(mlflow.MlflowClient, name, record_calls(name, getattr(mlflow.MlflowClient, name)))
    work(*arguments)
    record(THE_END)


def register_and_deploy(run: Run, candidate: Candidate, verdict: Verdict, refit: Refit) -> None:
    client, timer = connection.open_client(), Stopwatch(run.build_tag)
    registration = register.register(client, run, candidate, verdict, refit, timer)
    registry, deadline = model_versions.registry_identity(client, run.model), time.monotonic() + SECONDS
    for url in read_server_urls():  # the test has restored the registry: another model of this name was there before
        while read_status(url).get("registry") != registry and time.monotonic() < deadline:
            time.sleep(0.05)
    deploy.deploy(client, run, load_settings(run.model), candidate, registration, verdict, timer)


def roll_back_champion() -> None:
    roll_back.roll_back(connection.open_client(), "toy", "it predicts nonsense", Stopwatch("ct-9"))
