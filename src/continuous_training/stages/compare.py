"""Compare: whether the candidate deserves to replace the champion, from what both say of the same fresh rows.

Neither has trained on these rows. Without a champion the candidate must reach the absolute limits of training.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuous_training.comparison import rules
from continuous_training.comparison.contest import Contender, Contest
from continuous_training.data.snapshots import read_snapshot
from continuous_training.documents import Candidate, ModelCheck, Rule, Run, Snapshot, Stopwatch, Verdict
from continuous_training.errors import UserError
from continuous_training.monitoring import reference
from continuous_training.registry import model_versions, runs
from continuous_training.settings import terms_hash

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings


def judge(
    client: MlflowClient,
    run: Run,
    settings: Settings,
    snapshot: Snapshot,
    candidate: Candidate,
    model_check: ModelCheck,
    timer: Stopwatch,
) -> Verdict:
    """Judge the candidate and write the verdict to its MLflow run; of one to be promoted the monitor gets a reference.

    Raises:
        UserError: a model cannot be loaded or asked about the fresh rows, or a metric cannot be had.
    """
    fresh = read_snapshot(snapshot.fresh.path, settings.data)
    champion = model_versions.by_alias(client, run.model, model_versions.CHAMPION)
    ours = Contender(candidate.model_uri, settings, fresh)
    theirs = _standing(champion, settings, fresh) if champion else None
    contest = Contest(settings, fresh, ours, theirs)
    conditions = contest.conditions()
    scorable = all(rule.passed for rule in conditions)
    metrics = contest.metrics() if scorable else []
    scored: list[Rule] = []
    if champion and theirs:
        conditions.append(rules.unseen(model_versions.trained_until(client, champion), snapshot.fresh_since))
        if champion.run_id == candidate.run_id:
            scored = [rules.is_champion()]
        elif scorable:
            scored = [*contest.against(theirs, metrics)]
    elif scorable:
        scored = [*contest.alone(metrics)]
    found = [*scored, *conditions, *rules.behaves(model_check.checks)]
    failed = [rule for rule in found if not rule.passed]
    verdict = Verdict(
        decision="reject" if failed else "promote",
        message="; ".join(rule.message for rule in failed or scored[:1]),
        champion=champion.number if champion else None,
        fresh_rows=len(fresh),
        confidence=settings.compare.confidence,
        metrics=metrics,
        rules=found,
        curves=contest.curves() if scorable else [],
        **timer.stop(),
    )
    client.log_text(candidate.run_id, verdict.model_dump_json(indent=2), "verdict.json")
    client.set_tag(candidate.run_id, "ct.verdict", verdict.decision)
    if not failed:
        reference.keep(client, candidate.run_id, settings, snapshot, ours.recorded, fresh)
    if failed:
        runs.set_outcome(client, candidate.run_id, runs.REJECTED)
    elif run.promote == "ask":  # until a person has said yes and Deploy has overwritten it, this is a no
        runs.set_outcome(client, candidate.run_id, runs.UNAPPROVED)
    else:
        runs.clear_outcome(client, candidate.run_id)
    terms = terms_hash(run.model, settings.compare, verdict.champion)
    client.set_tag(candidate.run_id, runs.TERMS, terms)
    return verdict


def _standing(champion: Version, settings: Settings, fresh: pd.DataFrame) -> Contender:
    try:
        return Contender(champion.uri, settings, fresh)
    except UserError as problem:
        raise UserError(
            f"{problem}; it is the champion: restore its files, or put back the version before it with "
            "scripts/ct rollback"
        ) from problem
