"""Train: an MLflow run with its whole lineage, filled by the training entry point on the chosen compute."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from continuous_training import registry
from continuous_training.compute import local
from continuous_training.documents import Candidate, Plan, Run, Snapshot, Stopwatch
from continuous_training.problem import Problem

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

COMPUTE = {"local": local.train}


def train(client: MlflowClient, run: Run, taken: Snapshot, planned: Plan, timer: Stopwatch) -> Candidate:
    """Train the candidate, or take up the one that an interrupted run has trained already.

    Raises:
        Problem: training failed.
    """
    run_id = planned.resumes
    if run_id is None:
        run_id = _start(client, run, taken, planned)
        COMPUTE[run.compute](run, taken, run_id)
    else:
        log.info("The candidate of MLflow run %s is taken up again", run_id)
    trained = client.get_run(run_id)
    models = client.search_logged_models([trained.info.experiment_id], filter_string=f"source_run_id = '{run_id}'")
    if not models:
        raise Problem(f"MLflow run {run_id} holds no model: run again with FORCE=true to train anew")
    return Candidate(
        run_id=run_id,
        model_uri=models[0].model_uri,
        fingerprint=planned.fingerprint,
        metrics=trained.data.metrics,
        **timer.stop(),
    )


def _start(client: MlflowClient, run: Run, taken: Snapshot, planned: Plan) -> str:
    """Open the MLflow run and write down where its model comes from, before anything can fail.

    What a killed run left open of the same fingerprint is closed.
    """
    lineage = {
        registry.FINGERPRINT: planned.fingerprint,
        "ct.snapshot": taken.hash,
        "ct.source": planned.parts["source"],
        "ct.lock": run.lock,
        "ct.commit": run.commit,
        "ct.build_tag": run.build_tag,
        "ct.build_url": run.build_url,
        "ct.branch": run.branch,
        "ct.trigger": run.trigger,
        "ct.reason": run.reason,
        "ct.as_of": run.as_of.isoformat(),
        registry.TRAINED_UNTIL: taken.fresh_since.isoformat(),
        "ct.train_rows": str(taken.train.rows),
        "ct.fresh_rows": str(taken.fresh.rows),
        "ct.fresh_rows_per_day": f"{taken.fresh_rows_per_day:.1f}",
    }
    registry.abandon(client, run.model, planned.fingerprint)
    opened = client.create_run(registry.experiment(client, run.model), run_name=run.build_tag, tags=lineage)
    client.log_text(opened.info.run_id, json.dumps(json.loads(taken.model_dump_json()), indent=2), "snapshot.json")
    return str(opened.info.run_id)
