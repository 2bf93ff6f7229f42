"""Train: an MLflow run with its whole lineage, filled by the training entry point on the chosen compute.

With a grid there is one for each trial, and the best by validation is the candidate.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from continuous_training.compute import VALIDATION, Trial, local
from continuous_training.documents import Candidate, Plan, Run, Snapshot, Stopwatch
from continuous_training.errors import UserError
from continuous_training.registry import connection, runs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow import MlflowClient

    from continuous_training.settings import Settings

log = logging.getLogger(__name__)


def _on_ec2(run: Run, snapshot: Snapshot, trials: Sequence[Trial]) -> None:
    from continuous_training.compute.ec2 import training  # half a second for boto3 that others do not pay

    training.train(run, snapshot, trials)


COMPUTE: dict[str, Callable[[Run, Snapshot, Sequence[Trial]], None]] = {"local": local.train, "ec2": _on_ec2}


def train(
    client: MlflowClient, run: Run, settings: Settings, snapshot: Snapshot, plan: Plan, timer: Stopwatch
) -> Candidate:
    """Train the candidate, or take up the one that an interrupted run has trained already.

    Raises:
        UserError: training failed; with a grid, that of any trial.
    """
    run_id = plan.resumes
    if run_id is None:
        trials = _start(client, run, settings, snapshot, plan)
        try:
            COMPUTE[run.compute](run, snapshot, trials)
        except BaseException:
            _abandon(client, run, plan)
            raise
        run_id = trials[0].run_id
        if settings.model.grid:
            run_id = _best(client, trials, settings.compare.metric).run_id
            client.set_tag(run_id, runs.FINGERPRINT, plan.fingerprint)
    else:
        log.info("The candidate of MLflow run %s is taken up again", run_id)
    trained = client.get_run(run_id)
    models = client.search_logged_models([trained.info.experiment_id], filter_string=f"source_run_id = '{run_id}'")
    if not models:
        raise UserError(f"MLflow run {run_id} holds no model: run again with FORCE=true to train anew")
    return Candidate(
        run_id=run_id,
        model_uri=models[0].model_uri,
        fingerprint=plan.fingerprint,
        metrics=trained.data.metrics,
        **timer.stop(),
    )


def _start(client: MlflowClient, run: Run, settings: Settings, snapshot: Snapshot, plan: Plan) -> list[Trial]:
    """Open each trial's MLflow run and write down where its model comes from, before anything can fail.

    What a killed run left open of the same fingerprint is closed. A trial of a grid bears the fingerprint as its own
    only once it is chosen: until then nothing takes it for a candidate.
    """
    lineage = {
        runs.TRIAL_OF if settings.model.grid else runs.FINGERPRINT: plan.fingerprint,
        "ct.snapshot": snapshot.hash,
        "ct.source": plan.parts["source"],
        "ct.lock": run.lock,
        "ct.commit": run.commit,
        "ct.build_tag": run.build_tag,
        "ct.build_url": run.build_url,
        "ct.branch": run.branch,
        runs.TRIGGER: run.trigger,
        runs.REASON: connection.clip(run.reason),
        **({runs.EVIDENCE: plan.drifted.evidence} if plan.drifted else {}),
        runs.AS_OF: run.as_of.isoformat(),
        runs.TRAINED_UNTIL: snapshot.fresh_since.isoformat(),
        "ct.train_rows": str(snapshot.train.rows),
        "ct.fresh_rows": str(snapshot.fresh.rows),
        "ct.fresh_rows_per_day": f"{snapshot.fresh_rows_per_day:.1f}",
    }
    from continuous_training.monitoring.new_data import (
        kept,  # a second for Ibis that a candidate taken up again does not pay
    )

    runs.close_interrupted(client, run.model, plan.fingerprint)
    experiment = runs.experiment(client, run.model)
    watermark = kept.of(snapshot, settings.data)
    trials = []
    for number, parameters in enumerate(settings.model.trials, start=1):
        name = f"{run.build_tag}-{number}" if settings.model.grid else run.build_tag
        opened = client.create_run(experiment, run_name=name, tags=lineage)
        client.log_text(
            opened.info.run_id, json.dumps(json.loads(snapshot.model_dump_json()), indent=2), "snapshot.json"
        )
        kept.keep(client, opened.info.run_id, watermark)
        trials.append(Trial(str(opened.info.run_id), parameters))
    return trials


def _abandon(client: MlflowClient, run: Run, plan: Plan) -> None:
    """Close the MLflow runs of trials that were not begun."""
    try:
        runs.close_interrupted(client, run.model, plan.fingerprint)
    except Exception as error:
        log.warning("MLflow runs of this training may be open: %s", error)


def _best(client: MlflowClient, trials: Sequence[Trial], metric: str) -> Trial:
    """Return the trial with the highest score on the validation rows, the first of equals."""
    scores = [client.get_run(trial.run_id).data.metrics[f"{VALIDATION}{metric}"] for trial in trials]
    best = scores.index(max(scores))
    for number, (trial, score) in enumerate(zip(trials, scores, strict=True)):
        log.info("Trial %s of %s: validation %s %.4f with %s", number + 1, len(trials), metric, score, trial)
    log.info("Trial %s is the candidate", best + 1)
    return trials[best]
