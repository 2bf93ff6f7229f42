"""Plan: whether there is anything to learn.

A model is a function of its snapshot, its package's source, its parameters and the dependency lock. Their hash is the
fingerprint; one that was trained and judged before is not trained again. Nor is a ping answered twice: pings come from
programs, and a program that repeats itself would train all day.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from continuous_training.documents import Drifted, Plan, Run, Snapshot, Stopwatch
from continuous_training.monitoring.state import State
from continuous_training.registry import model_versions, promotion, runs
from continuous_training.settings import source_hash, terms_hash

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as TrackedRun

    from continuous_training.settings import Settings


PINGS = {"drift", "data"}  # the triggers that are programs


def _learnt_with(settings: Settings) -> str:
    """Return all of training.yaml that a model depends on: its section, and which columns are what; no limits."""
    data = settings.data
    features = [(name, data.columns[name].type) for name in data.features]
    chosen_by = settings.compare.metric if settings.model.grid else None
    return json.dumps([settings.model.model_dump(), chosen_by, data.target, data.time, data.key, features], default=str)


def _answered(client: MlflowClient, run: Run, since: datetime) -> TrackedRun | None:
    """Return the run that this one repeats, if it was asked for by a program that did so before."""
    return runs.find_answered(client, run, since) if run.trigger in PINGS and not run.force else None


def _drifted(client: MlflowClient, run: Run) -> Drifted | None:
    """Return what the monitor said when it asked for this run, if it did."""
    champion = model_versions.by_alias(client, run.model, model_versions.CHAMPION) if run.trigger == "drift" else None
    if champion is None:
        return None
    known = State.of(champion)
    if known.pinged is None or known.message is None or known.evidence is None:
        return None
    return Drifted(model_version=champion.number, at=known.pinged, message=known.message, evidence=known.evidence)


def make_plan(client: MlflowClient, run: Run, settings: Settings, snapshot: Snapshot, timer: Stopwatch) -> Plan:
    """Decide whether to train, from the fingerprint and what became of it before.

    A promotion that was cut off is undone first: the candidate is then judged against a champion that was proven.
    """
    promotion.recover(client, run.model, run.build_tag)
    parts = {
        "snapshot": snapshot.hash,
        "source": source_hash(run.model),
        "parameters": hashlib.sha256(_learnt_with(settings).encode()).hexdigest(),
        "lock": run.lock,
    }
    fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    before = runs.find_trained(client, run.model, fingerprint, runs.ROLLED_BACK)
    before = before or runs.find_trained(client, run.model, fingerprint)  # a twin of what was rolled back is no better
    decision: Literal["train", "nothing", "answered"] = "train"
    resumes = None
    if before is None:
        hours = settings.triggers.cool_down_hours
        if answer := _answered(client, run, timer.started - timedelta(hours=hours)):
            decision = "answered"
            reason = f"run {answer.info.run_name} was asked for in the same words less than {hours:g} hours ago"
        else:
            reason = "this fingerprint was never trained"
    elif run.force:
        reason = f"FORCE: trained again, although run {before.info.run_name} did"
    else:
        outcome = before.data.tags.get(runs.OUTCOME)
        done = {runs.DEPLOYED, runs.ROLLED_BACK}
        champion = model_versions.by_alias(client, run.model, model_versions.CHAMPION)
        terms = terms_hash(run.model, settings.compare, champion.number if champion else None)
        if before.data.tags.get(runs.TERMS) == terms:  # by other terms it may be judged otherwise
            done.add(runs.REJECTED)
        if run.promote == "never":
            done.add(runs.HELD)
        if run.promote != "ask":  # who was not asked cannot overrule who said no
            done.add(runs.UNAPPROVED)
        if outcome in done:
            decision = "nothing"
            reason = f"run {before.info.run_name} trained this fingerprint and was {outcome}"
        else:
            resumes = before.info.run_id
            halted = f"was {outcome}" if outcome else "did not come to its end"
            reason = (
                f"run {before.info.run_name} trained this fingerprint and {halted}: its candidate is taken up again"
            )
    return Plan(
        decision=decision,
        reason=reason,
        fingerprint=fingerprint,
        parts=parts,
        resumes=resumes,
        drifted=_drifted(client, run),
        **timer.stop(),
    )
