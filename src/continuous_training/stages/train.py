"""Train: an MLflow run with its full lineage, which the training entry point fills on the selected compute.

A grid has one MLflow run per trial, and the best trial by validation score is the candidate.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from continuous_training.compute import Trial, local
from continuous_training.documents import Candidate, Plan, Run, Snapshot, Stopwatch, Trials, TrialScore
from continuous_training.errors import UserError
from continuous_training.formatting.scorers import VALIDATION, format_score, plain_name
from continuous_training.registry import connection, runs
from continuous_training.settings import source_hash
from continuous_training.versions import packing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow import MlflowClient

    from continuous_training.settings import Settings

log = logging.getLogger(__name__)

BEST_TRIALS = 5  # in the report
LINEAGE = "ct."  # the prefix of the tags of an MLflow run that are signed with its model


def _on_ec2(run: Run, snapshot: Snapshot, trials: Sequence[Trial]) -> None:
    from continuous_training.compute.ec2 import training  # boto3 takes half a second to import

    training.train(run, snapshot, trials)


COMPUTE: dict[str, Callable[[Run, Snapshot, Sequence[Trial]], None]] = {"local": local.train, "ec2": _on_ec2}


def train(
    client: MlflowClient, run: Run, settings: Settings, snapshot: Snapshot, plan: Plan, timer: Stopwatch
) -> Candidate:
    """Train the candidate, or use the one that an interrupted run has trained already.

    Raises:
        UserError: training failed, in a grid that of any trial; or the model package has changed since Plan.
    """
    if plan.parts["source"] != source_hash(run.model):
        raise UserError(
            f"src/{run.model} has changed since Plan, whose fingerprint includes it: run scripts/ct plan again"
        )
    run_id = plan.resumed_run_id
    if run_id is None:
        trials = _create_runs(client, run, settings, snapshot, plan)
        try:
            COMPUTE[run.compute](run, snapshot, trials)
        except BaseException:
            _close_runs(client, run, plan)
            raise
        run_id = trials[0].run_id
        if settings.model.grid:
            run_id = _best_trial(client, trials, settings.compare.metric).run_id
            client.set_tag(run_id, runs.FINGERPRINT, plan.fingerprint)
    else:
        log.info("Using the candidate of MLflow run %s, which an earlier run trained", run_id)
    tracked_run = client.get_run(run_id)
    models = client.search_logged_models([tracked_run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'")
    if not models:
        raise UserError(f"MLflow run {run_id} holds no model: run again with FORCE=true to train again")
    lineage = {name: value for name, value in tracked_run.data.tags.items() if name.startswith(LINEAGE)}
    packing.sign_files(client, models[0].model_uri, run.model, settings, run_id, lineage)
    return Candidate(
        run_id=run_id,
        model_uri=models[0].model_uri,
        fingerprint=plan.fingerprint,
        metrics=tracked_run.data.metrics,
        trials=_summarize_trials(client, run.model, settings, plan.fingerprint),
        **timer.stop(),
    )


def _create_runs(client: MlflowClient, run: Run, settings: Settings, snapshot: Snapshot, plan: Plan) -> list[Trial]:
    """Create each trial's MLflow run with its lineage, before anything can fail.

    Open MLflow runs of the same fingerprint, left by a killed run, are closed. A trial of a grid gets the fingerprint
    as its own only when it is selected: until then nothing uses it as a candidate.
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
    trials = []
    for number, parameters in enumerate(settings.model.trials, start=1):
        name = f"{run.build_tag}-{number}" if settings.model.grid else run.build_tag
        tags = lineage | ({runs.TRIAL_PARAMETERS: json.dumps(parameters)} if settings.model.grid else {})
        tracked_run = client.create_run(experiment, run_name=name, tags=tags)
        client.log_text(
            tracked_run.info.run_id, json.dumps(json.loads(snapshot.model_dump_json()), indent=2), "snapshot.json"
        )
        save_watermark(client, tracked_run.info.run_id, watermark)
        trials.append(Trial(str(tracked_run.info.run_id), parameters))
    return trials


def _close_runs(client: MlflowClient, run: Run, plan: Plan) -> None:
    """Close the MLflow runs of trials that have not started."""
    try:
        runs.close_open_runs(client, run.model, plan.fingerprint)
    except Exception as error:
        log.warning("MLflow runs of this training may still be open: %s", error)


def _best_trial(client: MlflowClient, trials: Sequence[Trial], metric: str) -> Trial:
    """Return the trial with the highest score on the validation rows, the first of equals."""
    scores = [client.get_run(trial.run_id).data.metrics[f"{VALIDATION}{metric}"] for trial in trials]
    best = scores.index(max(scores))
    for number, (trial, score) in enumerate(zip(trials, scores, strict=True)):
        value = f"{plain_name(metric)} {format_score(score, metric)}"
        log.info("Trial %s of %s: validation %s with %s", number + 1, len(trials), value, trial)
    log.info("Trial %s is the candidate", best + 1)
    return trials[best]


def _summarize_trials(client: MlflowClient, model: str, settings: Settings, fingerprint: str) -> Trials | None:
    """Return the trials of a grid or a search; None if there is neither."""
    if not settings.model.grid and settings.model.search is None:
        return None
    metric = settings.compare.metric
    trials = runs.find_trials(client, runs.experiment_id(client, model), fingerprint, f"{VALIDATION}{metric}")
    if settings.model.grid:  # an interrupted one begins again
        trials = [*{json.dumps(trial.parameters): trial for trial in trials}.values()]
    scores = [TrialScore(parameters=trial.parameters, score=trial.score) for trial in trials if trial.score is not None]
    return Trials(
        metric=metric,
        complete=len(scores),
        pruned=sum(trial.status == runs.KILLED for trial in trials),
        failed=sum(trial.status == runs.FAILED for trial in trials),
        best=sorted(scores, key=lambda trial: -trial.score)[:BEST_TRIALS],
    )
