"""One run of the real stages in the Jenkinsfile's order, each in a process, and its result."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from continuous_training.command import SIGNAL_EXIT_CODES
from continuous_training.documents import Candidate, DataCheck, Deployment, Plan, Refit, Run, Verdict
from continuous_training.errors import UserError
from continuous_training.fork_server import client
from continuous_training.registry import connection, model_versions
from continuous_training.replay.month_results import Difference, RunResult, TrainedModel
from continuous_training.replay.months import MONTH_FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime

    from mlflow import MlflowClient

    from continuous_training.documents import Metric

    Step = Callable[[str], AbstractContextManager[None]]

STAGES = {  # each script, and the text of its progress bar
    "setup": "set up",
    "snapshot": "take the snapshot",
    "check_data": "check the data",
    "plan": "plan",
    "train": "train",
    "check_model": "check the model",
    "compare": "compare",
    "refit": "fit the winner once more",
    "register": "register",
    "deploy": "deploy",
}
REJECTING = {"snapshot", "check_data", "train", "check_model", "compare"}  # a failure of others is the machine's


def run_stages(as_of: datetime, step: Step, *, name: str, reason: str) -> RunResult:
    """Run the stages for a moment in the current workspace.

    A stage that rejects the data or the candidate ends the run, and the champion stays.

    Args:
        as_of: the moment.
        step: shows the progress.
        name: of the run and its log.
        reason: of the run.

    Raises:
        UserError: a stage failed that never rejects, or a stage was killed.
    """
    log = Path("logs", f"{name}.log").resolve()
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    rejection = ""
    for stage, description in STAGES.items():
        if not _is_due(stage):
            continue
        with step(description):
            code = _run_stage(stage, as_of, log, {"BUILD_TAG": f"replay-{name}", "REASON": reason})
        if code < 0 or code in SIGNAL_EXIT_CODES:
            raise UserError(f"{stage} of {name} was killed: repeat the command to continue the replay (log: {log})")
        if code and stage not in REJECTING:
            raise UserError(f"{stage} of {name} failed: {_last_error(log)} (log: {log})")
        if code:
            rejection = _describe_failure(stage, log)
            break
    return _read_result(f"{as_of:{MONTH_FORMAT}}", rejection, log)


def _is_due(stage: str) -> bool:
    """Return whether the Jenkinsfile would run a stage now."""
    if stage in {"train", "check_model", "compare"}:
        return Plan.read().decision == "train"
    if stage in {"refit", "register", "deploy"}:
        verdict = Verdict.find()
        return verdict is not None and verdict.decision == "promote"
    return True


def _run_stage(stage: str, as_of: datetime, log: Path, parameters: dict[str, str]) -> int:
    """Run a stage's script with its output appended to the log; return its exit code."""
    environment = os.environ | parameters | {"AS_OF": as_of.isoformat(), "CT_PROGRESS": "0"}
    with log.open("ab") as output:
        output.write(f"--- {stage}\n".encode())
        output.flush()
        return subprocess.run(
            client.command(f"scripts/{stage}.py"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,  # without a terminal, so that the stage can be a fork
            check=False,
        ).returncode


def _describe_failure(stage: str, log: Path) -> str:
    """Return why a stage failed, with the path of its log: the failed data checks, or its last error."""
    checks = DataCheck.find() if stage == "check_data" else None
    failures = [f"{check.name}: {check.message}" for check in checks.failures] if checks else []
    return f"{stage.replace('_', ' ')} failed: {'; '.join(failures) or _last_error(log)} (log: {log})"


def _last_error(log: Path) -> str:
    last = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-1]
    return last.partition(": error: ")[2] or last


def _read_result(month: str, rejection: str, log: Path) -> RunResult:
    """Return the result of a run from the documents of its stages."""
    model = Run.read().model
    plan, candidate, verdict = Plan.find(), Candidate.find(), Verdict.find()
    client = connection.open_client()
    champion = model_versions.by_alias(client, model, model_versions.CHAMPION)
    refit = Refit.find()
    message = rejection or (verdict.message if verdict else plan.reason if plan else "")
    return RunResult(
        month=month,
        decision=("promoted" if Deployment.find() else "rejected") if candidate else "none",
        message=message,
        candidate=_trained_model(client, candidate.run_id, candidate.model_uri) if candidate else None,
        refit=_trained_model(client, candidate.run_id, refit.model_uri)
        if candidate and refit and refit.decision == "refit"
        else None,
        champion=_trained_model(client, champion.run_id, champion.source).name if champion else None,
        fresh_difference=_fresh_difference(verdict.metrics[0]) if verdict and verdict.metrics else None,
        log=str(log),
    )


def _trained_model(client: MlflowClient, run_id: str, uri: str) -> TrainedModel:
    """Return a model with the path of its files: models of two registries are evaluated together."""
    model = client.get_logged_model(uri.removeprefix("models:/"))
    path = url2pathname(urlsplit(model.artifact_location).path)  # MLflow expects a path here, not a file: URL
    return TrainedModel(run_id=run_id, uri=path, is_refit=model.source_run_id != run_id)


def _fresh_difference(metric: Metric) -> Difference | None:
    if metric.champion is None:
        return None
    low, high = metric.difference or (None, None)
    return Difference(value=metric.candidate - metric.champion, low=low, high=high)
