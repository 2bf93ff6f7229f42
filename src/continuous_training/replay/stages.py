"""One run: the real stages as the Jenkinsfile orders them, each a process, and what they came to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from continuous_training.command import SIGNAL_EXIT_CODES
from continuous_training.documents import Candidate, DataCheck, Deployment, Plan, Run, Verdict
from continuous_training.errors import UserError
from continuous_training.registry import connection, model_versions
from continuous_training.replay.months import PATTERN, Difference, Made, Model

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime

    from mlflow import MlflowClient

    from continuous_training.documents import Metric

    Step = Callable[[str], AbstractContextManager[None]]

STAGES = {
    "setup": "set up",
    "snapshot": "take the snapshot",
    "check_data": "check the data",
    "plan": "plan",
    "train": "train",
    "check_model": "check the model",
    "compare": "compare",
    "register": "register",
    "deploy": "deploy",
}
REFUSING = {"snapshot", "check_data", "train", "check_model", "compare"}  # what else fails is this machine's fault


def run(as_of: datetime, step: Step, *, name: str, reason: str) -> Made:
    """Run the stages of a moment, in the workspace that this process is in.

    A stage that refuses ends the run: the champion stays.

    Args:
        as_of: the moment.
        step: shows what is done.
        name: the run's, and its log's.
        reason: why it was started.

    Raises:
        UserError: a stage failed that never refuses, or was ended from outside.
    """
    log = Path("logs", f"{name}.log").resolve()
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    message = ""
    for stage, words in STAGES.items():
        if not _is_due(stage):
            continue
        with step(words):
            code = _start(stage, as_of, log, {"BUILD_TAG": f"replay-{name}", "REASON": reason})
        if code < 0 or code in SIGNAL_EXIT_CODES:
            raise UserError(f"{stage} of {name} was ended from outside: replay again and it goes on (log: {log})")
        if code and stage not in REFUSING:
            raise UserError(f"{stage} of {name} failed: {_last_words(log)} (log: {log})")
        if code:
            message = _why(stage, log)
            break
    return _made(f"{as_of:{PATTERN}}", message, log)


def _is_due(stage: str) -> bool:
    """Tell whether the Jenkinsfile would run a stage now."""
    if stage in {"train", "check_model", "compare"}:
        return Plan.read().decision == "train"
    if stage in {"register", "deploy"}:
        verdict = Verdict.find()
        return verdict is not None and verdict.decision == "promote"
    return True


def _start(stage: str, as_of: datetime, log: Path, named: dict[str, str]) -> int:
    of_the_run = named | {"AS_OF": as_of.isoformat(), "CT_PROGRESS": "0"}
    with log.open("ab") as sink:
        sink.write(f"--- {stage}\n".encode())
        sink.flush()
        command = [sys.executable, f"scripts/{stage}.py"]
        environment = os.environ | of_the_run
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment, check=False
        ).returncode


def _why(stage: str, log: Path) -> str:
    """Say why a stage failed: the checks of the data that did, or else its last line; and where all it said is."""
    found = DataCheck.find() if stage == "check_data" else None
    failed = [f"{check.name}: {check.message}" for check in found.failures] if found else []
    return f"{stage.replace('_', ' ')} failed: {'; '.join(failed) or _last_words(log)} (log: {log})"


def _last_words(log: Path) -> str:
    last = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-1]
    return last.partition(": error: ")[2] or last


def _made(month: str, refused: str, log: Path) -> Made:
    """Read what the stages have left."""
    model = Run.read().model
    planned, candidate, verdict = Plan.find(), Candidate.find(), Verdict.find()
    client = connection.open_client()
    champion = model_versions.by_alias(client, model, model_versions.CHAMPION)
    message = refused or (verdict.message if verdict else planned.reason if planned else "")
    return Made(
        month=month,
        decision=("promoted" if Deployment.find() else "rejected") if candidate else "none",
        message=message,
        candidate=Model(run_id=candidate.run_id, uri=_files(client, candidate)) if candidate else None,
        champion=champion.run_id if champion else None,
        fresh=_fresh(verdict.metrics[0]) if verdict and verdict.metrics else None,
        log=str(log),
    )


def _files(client: MlflowClient, candidate: Candidate) -> str:
    """Return where a candidate's files are: models of two registries are judged together."""
    model = client.get_logged_model(candidate.model_uri.removeprefix("models:/"))
    return url2pathname(urlsplit(model.artifact_location).path)  # MLflow takes a path here, and no file:


def _fresh(metric: Metric) -> Difference | None:
    if metric.champion is None:
        return None
    low, high = metric.difference or (None, None)
    return Difference(value=metric.candidate - metric.champion, low=low, high=high)
