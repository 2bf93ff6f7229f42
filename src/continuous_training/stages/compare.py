"""Compare: decide whether the candidate replaces the champion, from the predictions of both on the same fresh rows.

Neither model was trained on these rows. Without a champion the candidate must reach the absolute limits of
training.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuous_training.comparison import rules
from continuous_training.comparison.comparison import Contender, Contest
from continuous_training.data.snapshots import read_snapshot
from continuous_training.documents import Candidate, ModelCheck, Rule, Run, Snapshot, Stopwatch, Verdict
from continuous_training.errors import UserError
from continuous_training.monitoring.reference import save_reference
from continuous_training.registry import model_versions, runs
from continuous_training.settings import terms_hash

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings


def compare(
    client: MlflowClient,
    run: Run,
    settings: Settings,
    snapshot: Snapshot,
    candidate: Candidate,
    model_check: ModelCheck,
    timer: Stopwatch,
) -> Verdict:
    """Compare the candidate with the champion and log the verdict to the candidate's MLflow run.

    A candidate that is promoted also gets the reference that the monitor compares live data with.

    Raises:
        UserError: a model cannot be loaded or cannot predict the fresh rows, or a metric cannot be computed.
    """
    fresh = read_snapshot(snapshot.fresh.path, settings.data)
    champion = model_versions.by_alias(client, run.model, model_versions.CHAMPION)
    ours = Contender(candidate.model_uri, settings, fresh)
    theirs = _champion_contender(champion, settings, fresh) if champion else None
    contest = Contest(settings, fresh, ours, theirs)
    conditions = contest.conditions()
    scorable = all(rule.passed for rule in conditions)
    metrics = contest.metrics() if scorable else []
    metric_rules: list[Rule] = []
    if champion and theirs:
        conditions.append(rules.unseen(model_versions.trained_until(client, champion), snapshot.fresh_since))
        if champion.run_id == candidate.run_id:
            metric_rules = [rules.is_champion()]
        elif scorable:
            metric_rules = [*contest.against(theirs, metrics)]
    elif scorable:
        metric_rules = [*contest.alone(metrics)]
    all_rules = [*metric_rules, *conditions, *rules.behaves(model_check.checks)]
    failed = [rule for rule in all_rules if not rule.passed]
    verdict = Verdict(
        decision="reject" if failed else "promote",
        message="; ".join(rule.message for rule in failed or metric_rules[:1]),
        champion=champion.number if champion else None,
        fresh_rows=len(fresh),
        confidence=settings.compare.confidence,
        metrics=metrics,
        rules=all_rules,
        curves=contest.curves() if scorable else [],
        **timer.stop(),
    )
    client.log_text(candidate.run_id, verdict.model_dump_json(indent=2), "verdict.json")
    client.set_tag(candidate.run_id, "ct.verdict", verdict.decision)
    if not failed:
        save_reference(client, candidate.run_id, settings, snapshot, ours.recorded, fresh)
    if failed:
        runs.set_outcome(client, candidate.run_id, runs.REJECTED)
    elif run.promote == "ask":  # until a person approves and Deploy sets the final outcome
        runs.set_outcome(client, candidate.run_id, runs.UNAPPROVED)
    else:
        runs.clear_outcome(client, candidate.run_id)
    terms = terms_hash(run.model, settings.compare, verdict.champion)
    client.set_tag(candidate.run_id, runs.TERMS, terms)
    return verdict


def _champion_contender(champion: Version, settings: Settings, fresh: pd.DataFrame) -> Contender:
    try:
        return Contender(champion.uri, settings, fresh)
    except UserError as error:
        raise UserError(
            f"{error}; it is the champion: restore its files, or go back to the version before it with "
            "scripts/ct rollback"
        ) from error
