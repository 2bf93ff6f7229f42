"""Plan: decide whether to train.

A model is a function of its snapshot, its package's source, its parameters and the dependency lock. Their hash is the
fingerprint. A fingerprint that was trained and compared before is not trained again. Nor is a repeated ping: pings come
from programs, and a program that repeats itself would cause trainings all day.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from continuous_training.documents import DriftEvidence, Plan, Run, Snapshot, Stopwatch
from continuous_training.monitoring.state import MonitorState
from continuous_training.registry import holds, model_versions, promotion, runs
from continuous_training.settings import source_hash, terms_hash

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as TrackedRun

    from continuous_training.settings import Settings


PINGS = {"drift", "data"}  # the triggers that programs send


def _training_parameters(settings: Settings) -> str:
    """Return the part of training.yaml that a model depends on: its section `model` and the roles of columns.

    How long a search goes on, and how many trials run at the same time, does not change what a trial is.
    """
    data = settings.data
    features = [(name, data.columns[name].type) for name in data.features]
    metric = settings.compare.metric
    selection = [metric, settings.compare.functions.get(metric)] if settings.model.trials else None
    return json.dumps(
        [
            settings.model.model_dump(exclude={"search": {"minutes", "at_once"}}),
            selection,
            data.target,
            data.weight,
            data.group,
            data.time,
            data.key,
            features,
        ],
        default=str,
    )


def _find_repeated_run(client: MlflowClient, run: Run, since: datetime) -> TrackedRun | None:
    """Return the run that this one repeats, if a ping triggered both."""
    return runs.find_run_with_same_trigger(client, run, since) if run.trigger in PINGS and not run.force else None


def _drift_evidence(client: MlflowClient, run: Run) -> DriftEvidence | None:
    """Return the drift that the monitor detected, if it triggered this run."""
    champion = model_versions.by_alias(client, run.model, model_versions.CHAMPION) if run.trigger == "drift" else None
    if champion is None:
        return None
    state = MonitorState.of(champion)
    if state.pinged_at is None or state.message is None or state.evidence is None:
        return None
    return DriftEvidence(
        model_version=champion.number, at=state.pinged_at, message=state.message, evidence=state.evidence
    )


def make_plan(client: MlflowClient, run: Run, settings: Settings, snapshot: Snapshot, timer: Stopwatch) -> Plan:
    """Decide whether to train, from the fingerprint and the outcome of earlier runs with the same one.

    An interrupted promotion is reverted first, so that the candidate is compared with a champion that was confirmed.
    """
    promotion.recover(client, run.model, run.build_tag)
    hold = holds.find(client, run.model)
    parts = {
        "snapshot": snapshot.hash,
        "source": source_hash(run.model),
        "parameters": hashlib.sha256(_training_parameters(settings).encode()).hexdigest(),
        "lock": run.lock,
    }
    fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    before = runs.find_training_run(client, run.model, fingerprint, runs.ROLLED_BACK)
    before = before or runs.find_training_run(
        client, run.model, fingerprint
    )  # a run with the fingerprint of a rolled-back one counts as rolled back
    decision: Literal["train", "nothing", "duplicate"] = "train"
    resumes = None
    if before is None:
        hours = settings.triggers.cool_down_hours
        if earlier := _find_repeated_run(client, run, timer.started - timedelta(hours=hours)):
            decision = "duplicate"
            reason = f"run {earlier.info.run_name} had the same trigger and reason less than {hours:g} hours ago"
        else:
            reason = "this fingerprint has not been trained"
    elif run.force:
        reason = f"FORCE: trained again, although run {before.info.run_name} did"
    else:
        outcome = before.data.tags.get(runs.OUTCOME)
        final = {runs.DEPLOYED, runs.ROLLED_BACK}
        champion = model_versions.by_alias(client, run.model, model_versions.CHAMPION)
        terms = terms_hash(run.model, settings.compare, champion.number if champion else None)
        if before.data.tags.get(runs.TERMS) == terms and not run.acceptance:  # else the verdict may differ
            final.add(runs.REJECTED)
        if run.is_held(on_hold=hold is not None):
            final.add(runs.HELD)
        if run.promote != "ask":  # a run without approval cannot overrule a rejection
            final.add(runs.UNAPPROVED)
        if outcome in final:
            decision = "nothing"
            reason = f"run {before.info.run_name} trained this fingerprint and was {outcome}"
        else:
            resumes = before.info.run_id
            state = f"was {outcome}" if outcome else "was interrupted"
            reason = f"run {before.info.run_name} trained this fingerprint and {state}: its candidate is used again"
    return Plan(
        decision=decision,
        reason=reason,
        fingerprint=fingerprint,
        parts=parts,
        resumed_run_id=resumes,
        drift=_drift_evidence(client, run),
        hold=hold,
        **timer.stop(),
    )
