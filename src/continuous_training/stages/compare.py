"""Compare: decide whether the candidate replaces the champion, from the predictions of both on the same fresh rows.

Neither model was trained on these rows. Without a champion the candidate must reach the absolute limits of
training.yaml.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from continuous_training.comparison import acceptance, judged_twin, looks, rules
from continuous_training.comparison.comparison import Comparison
from continuous_training.comparison.lineage import read_lineage
from continuous_training.comparison.lost_champion import describe_loss
from continuous_training.comparison.stored_model import open_model
from continuous_training.data.snapshots import read_snapshot
from continuous_training.documents import Candidate, ModelCheck, Rule, Run, Snapshot, Stopwatch, Verdict
from continuous_training.errors import UserError
from continuous_training.monitoring.reference import save_reference
from continuous_training.registry import looks as tracked_looks
from continuous_training.registry import model_versions, runs
from continuous_training.settings import terms_hash

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from continuous_training.comparison.stored_model import StoredModel
    from continuous_training.documents import Metric
    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings

NO_TERMS = "none"  # equal to no hash: Plan uses the candidate again, even if the same champion is restored


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

    A candidate that is promoted also gets the reference that the monitor compares live data with. A champion that
    cannot be opened rejects the candidate, which the next run uses again: it was not compared. A person can accept
    that, and other changes of form.

    Raises:
        UserError: the candidate cannot be loaded, a model cannot predict the fresh rows, or a metric cannot be
            computed.
    """
    fresh = read_snapshot(snapshot.fresh.path, settings.data)
    champion = model_versions.by_alias(client, run.model, model_versions.CHAMPION)
    with ExitStack() as stack:
        candidate_model = stack.enter_context(
            open_model(candidate.model_uri, candidate.run_id, run.model, settings, fresh)
        )
        champion_model, preconditions = _open_champion(stack, client, champion, settings, fresh)
        trained_until = None
        if champion and champion_model:
            lineage = read_lineage(client, champion, settings, champion_model.manifest)
            champion_model, trained_until = judged_twin.choose_model(
                stack, champion, champion_model, lineage, settings, fresh, snapshot.fresh_since
            )
        look, confidence = None, settings.compare.confidence
        is_champion = champion is not None and champion.run_id == candidate.run_id
        if champion and champion_model and not is_champion:
            earlier = tracked_looks.find(client, run.model)
            look = looks.next_look(earlier, settings.compare, candidate.fingerprint, champion.number, snapshot)
            confidence = looks.confidence_of(look, settings.compare)
        comparison = Comparison(settings, fresh, candidate_model, champion_model, confidence)
        preconditions = acceptance.accept(preconditions + comparison.check_preconditions(), run.acceptance)
        is_computable = not any(rule.rejects for rule in preconditions)
        if trained_until:
            preconditions += acceptance.accept([trained_until], run.acceptance)
        metrics: list[Metric] = []
        metric_rules: list[Rule] = []
        if is_computable and any(rule.accepted for rule in preconditions):
            comparison, metrics, metric_rules = acceptance.judge(comparison, preconditions)
        elif is_computable:  # never with a champion that is lost: its rule has failed
            metrics = comparison.compute_metrics()
            metric_rules = [rules.accept_champion()] if is_champion else [*comparison.check_candidate(metrics)]
        targets = comparison.score_targets() if is_computable else {}
        curves = comparison.curves() if is_computable else []
        confusion = comparison.confusion() if is_computable else []
        importance = comparison.importance() if is_computable else None
    if look and metrics and metrics[0].standard_error is not None:
        look = look.model_copy(update={"standard_error": metrics[0].standard_error})
        tracked_looks.record(client, candidate.run_id, look)
    else:
        look = None  # what is not compared with the champion uses nothing of the error rate
    all_rules = [*metric_rules, *preconditions, *rules.check_behaviour(model_check.checks)]
    all_rules = acceptance.accept(all_rules, run.acceptance)
    accepted = [rule for rule in all_rules if rule.accepted]
    failed = [rule for rule in all_rules if rule.rejects]
    verdict = Verdict(
        decision="reject" if failed else "promote",
        message=acceptance.explain(failed or [*metric_rules[:1], *accepted]),
        champion=champion.number if champion else None,
        judged_twin=bool(champion and champion_model and champion_model.uri != champion.uri),
        fresh_rows=len(fresh),
        confidence=confidence,
        look=look,
        metrics=metrics,
        targets=targets,
        rules=all_rules,
        acceptance=run.acceptance if accepted else None,
        curves=curves,
        confusion=confusion,
        importance=importance,
        **timer.stop(),
    )
    client.log_text(candidate.run_id, verdict.model_dump_json(indent=2), "verdict.json")
    client.set_tag(candidate.run_id, "ct.verdict", verdict.decision)
    if not failed:
        save_reference(client, candidate.run_id, settings, snapshot, candidate_model.predictions, fresh)
    if failed:
        runs.set_outcome(client, candidate.run_id, runs.REJECTED)
    elif run.promote == "ask":  # until a person approves and Deploy sets the final outcome
        runs.set_outcome(client, candidate.run_id, runs.UNAPPROVED)
    else:
        runs.clear_outcome(client, candidate.run_id)
    terms = NO_TERMS if verdict.lost_champion else terms_hash(run.model, settings.compare, verdict.champion)
    client.set_tag(candidate.run_id, runs.TERMS, terms)
    return verdict


def _open_champion(
    stack: ExitStack, client: MlflowClient, champion: Version | None, settings: Settings, fresh: pd.DataFrame
) -> tuple[StoredModel | None, list[Rule]]:
    """Open the champion, if there is one; if it cannot be opened, return a rule that rejects the candidate."""
    if champion is None:
        return None, []
    try:
        return stack.enter_context(open_model(champion.uri, champion.run_id, champion.name, settings, fresh)), []
    except UserError as error:
        return None, [rules.reject_lost_champion(describe_loss(client, champion, settings, error))]
