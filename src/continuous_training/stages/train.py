"""Train: an MLflow run with its full lineage, which the training entry point fills on the selected compute."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from continuous_training.compute import local
from continuous_training.documents import Candidate, Plan, Run, Snapshot, Stopwatch, Trials, TrialScore
from continuous_training.errors import UserError
from continuous_training.registry import connection, runs, trials
from continuous_training.settings import source_hash
from continuous_training.versions import packing

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient
    from mlflow.entities import Run as TrackedRun

    from continuous_training.settings import Settings

log = logging.getLogger(__name__)

BEST_TRIALS = 5  # in the report
LINEAGE = "ct."  # the prefix of the tags of an MLflow run that are signed with its model


def _on_ec2(run: Run, snapshot: Snapshot, run_id: str) -> None:
    from continuous_training.compute.ec2 import training  # boto3 takes half a second to import

    training.train(run, snapshot, run_id)


COMPUTE: dict[str, Callable[[Run, Snapshot, str], None]] = {"local": local.train, "ec2": _on_ec2}


def train(
    client: MlflowClient, run: Run, settings: Settings, snapshot: Snapshot, plan: Plan, timer: Stopwatch
) -> Candidate:
    """Train the candidate, or use the one that an interrupted run has trained already.

    Raises:
        UserError: training failed, or the model package has changed since Plan.
    """
    if plan.parts["source"] != source_hash(run.model):
        raise UserError(
            f"src/{run.model} has changed since Plan, whose fingerprint includes it: run scripts/ct plan again"
        )
    run_id = plan.resumed_run_id
    if run_id is None:
        run_id = _create_run(client, run, settings, snapshot, plan)
        try:
            COMPUTE[run.compute](run, snapshot, run_id)
        except BaseException:
            _close_runs(client, run, plan)
            raise
    else:
        log.info("Using the candidate of MLflow run %s, which an earlier run trained", run_id)
    tracked_run, model_uri = client.get_run(run_id), find_model(client, run_id)
    lineage = {name: value for name, value in tracked_run.data.tags.items() if name.startswith(LINEAGE)}
    packing.sign_files(client, model_uri, run.model, settings, run_id, lineage)
    return Candidate(
        run_id=run_id,
        model_uri=model_uri,
        fingerprint=plan.fingerprint,
        metrics=tracked_run.data.metrics,
        trials=_summarize_trials(client, tracked_run, settings) if settings.model.trials else None,
        **timer.stop(),
    )


def find_model(client: MlflowClient, run_id: str) -> str:
    """Return the address of the model that an MLflow run has stored.

    Raises:
        UserError: there is none.
    """
    experiment = client.get_run(run_id).info.experiment_id
    models = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
    if not models:
        raise UserError(f"MLflow run {run_id} holds no model: run again with FORCE=true to train again")
    return str(models[0].model_uri)


def _create_run(client: MlflowClient, run: Run, settings: Settings, snapshot: Snapshot, plan: Plan) -> str:
    """Create the MLflow run with its lineage, before anything can fail; return its id.

    Open MLflow runs of the same fingerprint, left by a killed run, are closed.
    """
    lineage = {
        runs.FINGERPRINT: plan.fingerprint,
        "ct.snapshot": snapshot.hash,
        "ct.source": plan.parts["source"],
        "ct.lock": run.lock,
        "ct.commit": run.commit,
        "ct.build_tag": run.build_tag,
        "ct.build_url": run.build_url,
        "ct.branch": run.branch,
        runs.TRIGGER: run.trigger,
        runs.REASON: connection.clip(run.reason),
        **({runs.EVIDENCE: plan.drift.evidence} if plan.drift else {}),
        runs.AS_OF: run.as_of.isoformat(),
        runs.TRAINED_UNTIL: snapshot.fresh_since.isoformat(),
        "ct.train_rows": str(snapshot.train.rows),
        "ct.fresh_rows": str(snapshot.fresh.rows),
        "ct.fresh_rows_per_day": f"{snapshot.fresh_rows_per_day:.1f}",
    }
    # Importing Ibis takes a second, which a resumed candidate does not need
    from continuous_training.monitoring.new_data.watermark import compute_watermark, save_watermark

    runs.close_open_runs(client, run.model, plan.fingerprint)
    experiment = runs.experiment_id(client, run.model)
    watermark = compute_watermark(snapshot, settings.data)
    run_id = str(client.create_run(experiment, run_name=run.build_tag, tags=lineage).info.run_id)
    client.log_text(run_id, json.dumps(json.loads(snapshot.model_dump_json()), indent=2), "snapshot.json")
    save_watermark(client, run_id, watermark)
    return run_id


def _close_runs(client: MlflowClient, run: Run, plan: Plan) -> None:
    """Close the MLflow run of a training that has not started."""
    try:
        runs.close_open_runs(client, run.model, plan.fingerprint)
    except Exception as error:
        log.warning("MLflow runs of this training may still be open: %s", error)


def _summarize_trials(client: MlflowClient, training: TrackedRun, settings: Settings) -> Trials:
    """Return the trials of a grid or a search."""
    found = trials.find_trials(client, training, settings)
    scores = [
        TrialScore(parameters=trial.parameters, score=trial.score)
        for _, trial in sorted(found.items())
        if trial.score is not None
    ]
    return Trials(
        metric=settings.compare.metric,
        complete=len(scores),
        pruned=sum(trial.status == trials.KILLED for trial in found.values()),
        failed=sum(trial.status == trials.FAILED for trial in found.values()),
        best=sorted(scores, key=lambda trial: -trial.score)[:BEST_TRIALS],
    )
