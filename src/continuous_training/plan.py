"""Plan: whether there is anything to learn.

A model is a function of its snapshot, its package's source, its parameters and the dependency lock. Their hash is the
fingerprint; one that was trained and judged before is not trained again.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Literal

from continuous_training import registry, settings
from continuous_training.documents import Plan, Run, Snapshot, Stopwatch

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.settings import Settings


def make(client: MlflowClient, run: Run, given: Settings, taken: Snapshot, timer: Stopwatch) -> Plan:
    """Decide whether to train, from the fingerprint and what became of it before."""
    parts = {
        "snapshot": taken.hash,
        "source": settings.source_hash(run.model),
        "parameters": hashlib.sha256(given.model.model_dump_json().encode()).hexdigest(),
        "lock": run.lock,
    }
    fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    before = registry.trained(client, run.model, fingerprint)
    decision: Literal["train", "nothing"] = "train"
    resumes = None
    if before is None:
        reason = "this fingerprint was never trained"
    elif run.force:
        reason = f"FORCE: trained again, although run {before.info.run_name} did"
    else:
        outcome = before.data.tags.get(registry.OUTCOME)
        done = outcome in {registry.DEPLOYED, registry.REJECTED} or (
            outcome == registry.HELD and run.promote == "never"
        )
        if done:
            decision = "nothing"
            reason = f"run {before.info.run_name} trained this fingerprint and was {outcome}"
        else:
            resumes = before.info.run_id
            halted = "was held back" if outcome == registry.HELD else "did not come to its end"
            reason = (
                f"run {before.info.run_name} trained this fingerprint and {halted}: its candidate is taken up again"
            )
    return Plan(decision=decision, reason=reason, fingerprint=fingerprint, parts=parts, resumes=resumes, **timer.stop())
