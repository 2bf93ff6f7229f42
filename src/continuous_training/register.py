"""Register: the candidate becomes a version in the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuous_training import promotion, registry
from continuous_training.documents import Candidate, Registration, Run, Stopwatch, Verdict
from continuous_training.problem import Problem

if TYPE_CHECKING:
    from mlflow import MlflowClient


def register(client: MlflowClient, run: Run, candidate: Candidate, verdict: Verdict, timer: Stopwatch) -> Registration:
    """Register the candidate under the alias `candidate`; with PROMOTE=never that is as far as it goes.

    Raises:
        Problem: its verdict is not `promote`, or it was rolled back before and FORCE is not set.
    """
    if verdict.decision != "promote":
        raise Problem(f"the candidate was rejected ({verdict.said}): it is not registered")
    if made := registry.made_from(client, run.model, candidate.run_id):
        promotion.refuse_rolled_back(made, force=run.force)
    tags = {
        "ct.verdict": verdict.decision,
        "ct.said": verdict.said,
        "ct.rules": "; ".join(f"{rule.name}: {'passed' if rule.passed else 'failed'}" for rule in verdict.rules),
        "ct.build_tag": run.build_tag,
    }
    version = registry.register(client, run.model, candidate.run_id, candidate.model_uri, tags)
    if run.promote == "never":
        registry.conclude(client, candidate.run_id, registry.HELD)
    return Registration(name=version.name, model_version=version.number, **timer.stop())
