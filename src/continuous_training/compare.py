"""Compare: whether the candidate deserves to replace the champion, from what both say of the same fresh rows.

Neither has trained on these rows. Without a champion the candidate must reach the absolute limits of training.yaml.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from continuous_training import evaluation, registry, snapshot
from continuous_training.documents import Candidate, Metric, Rule, Run, Snapshot, Stopwatch, Verdict
from continuous_training.problem import Problem

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from continuous_training.evaluation import Recorded
    from continuous_training.registry import Version
    from continuous_training.settings import Compare, Settings


def judge(
    client: MlflowClient, run: Run, given: Settings, taken: Snapshot, candidate: Candidate, timer: Stopwatch
) -> Verdict:
    """Judge the candidate and write the verdict to its MLflow run.

    Raises:
        Problem: a model cannot be loaded or asked about the fresh rows, or a metric cannot be had.
    """
    fresh = snapshot.read(taken.fresh.path, given.data)
    truth = fresh[given.data.target]
    champion = registry.holder(client, run.model, registry.CHAMPION)
    answers = _answers(candidate.model_uri, "the candidate", fresh, given)
    if champion is None:
        theirs = None
        metrics = _metrics(given.compare, answers, None, truth)
        rules = [_reaches(name, limit, answers, truth) for name, limit in given.compare.first.items()]
    else:
        theirs = _answers(champion.uri, f"the champion, version {champion.number},", fresh, given)
        metrics = _metrics(given.compare, answers, theirs, truth)
        rules = [_unseen(client, champion, taken)]
        rules.append(_is_champion() if champion.run_id == candidate.run_id else _improves(given.compare, metrics[0]))
    failed = [rule for rule in rules if not rule.passed]
    verdict = Verdict(
        decision="reject" if failed else "promote",
        said="; ".join(rule.said for rule in failed or rules),
        champion=champion.number if champion else None,
        fresh_rows=len(fresh),
        confidence=given.compare.confidence,
        metrics=metrics,
        rules=rules,
        curves=[
            *evaluation.curves(answers, truth, "candidate"),
            *(evaluation.curves(theirs, truth, "champion") if theirs else []),
        ],
        **timer.stop(),
    )
    client.log_text(candidate.run_id, verdict.model_dump_json(indent=2), "verdict.json")
    client.set_tag(candidate.run_id, "ct.verdict", verdict.decision)
    if failed:
        client.set_tag(candidate.run_id, registry.OUTCOME, registry.REJECTED)
    elif run.promote == "ask":  # until a person has said yes and Deploy has overwritten it, this is a no
        client.set_tag(candidate.run_id, registry.OUTCOME, registry.UNAPPROVED)
    return verdict


def _answers(uri: str, whose: str, fresh: pd.DataFrame, given: Settings) -> Recorded:
    estimator = registry.load(uri, given.model.trusted_types)
    asks = list(getattr(estimator, "feature_names_in_", given.data.features))
    missing = [name for name in asks if name not in fresh]
    if missing:
        raise Problem(f"{whose} asks for {', '.join(missing)}, which the query does not return any more")
    return evaluation.predict(estimator, fresh[asks], given.model.task)


def _metrics(limits: Compare, ours: Recorded, theirs: Recorded | None, truth: pd.Series) -> list[Metric]:
    """Score both models; the primary metric comes first, with the interval of the difference and its margin."""
    metrics = [
        Metric(
            name=name,
            candidate=evaluation.score(name, ours, truth),
            champion=evaluation.score(name, theirs, truth) if theirs else None,
        )
        for name in (limits.metric, *limits.report)
    ]
    if theirs is None:
        return metrics
    interval = evaluation.difference(
        limits.metric, ours, theirs, truth, confidence=limits.confidence, resamples=limits.resamples
    )
    primary = metrics[0].model_copy(update={"difference": interval, "margin": limits.min_improvement})
    return [primary, *metrics[1:]]


def _reaches(name: str, limit: float, ours: Recorded, truth: pd.Series) -> Rule:
    value = evaluation.score(name, ours, truth)
    said = f"{name} is {value:.4f}; a first model needs {limit:g}"
    return Rule(name=f"{name} of a first model", passed=value >= limit, observed=value, limit=limit, said=said)


def _improves(limits: Compare, metric: Metric) -> Rule:
    """Hold the lower end of the interval against the margin: an equal model does not replace the champion."""
    low, high = metric.difference or (float("nan"), float("nan"))
    better = low > limits.min_improvement
    interval = f"{low:+.4f} to {high:+.4f} with {limits.confidence:.0%} confidence"
    found = "is better" if better else ("is worse" if high < 0 else "is not surely better")
    said = f"the candidate's {metric.name} {found}: {interval}, more than {limits.min_improvement:+g} is asked"
    return Rule(name=f"{metric.name} improves", passed=better, observed=low, limit=limits.min_improvement, said=said)


def _unseen(client: MlflowClient, champion: Version, taken: Snapshot) -> Rule:
    """Check that the champion has not trained on the rows that judge it: time flows forward."""
    until = datetime.fromisoformat(client.get_run(champion.run_id).data.tags["ct.trained_until"])
    passed = until <= taken.fresh_since
    said = f"the champion was trained on rows before {until:%Y-%m-%d}, the fresh start on {taken.fresh_since:%Y-%m-%d}"
    if not passed:
        said += ", so it has seen some of them: choose a later AS_OF"
    return Rule(name="fresh rows are unseen", passed=passed, observed=None, limit=None, said=said)


def _is_champion() -> Rule:
    said = "the candidate is the champion already: an interrupted run promoted it"
    return Rule(name="candidate is the champion", passed=True, observed=None, limit=None, said=said)
