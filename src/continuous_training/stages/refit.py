"""Refit: fit a better candidate once more on all rows, and hold the new model to the one that was judged.

What is deployed is the judged recipe, on all rows whose labels are known. The version belongs to the candidate's MLflow
run, so that all that is known of the candidate stays true of it; its signed lineage names the candidate's files, its
judged twin, with which the next candidate is compared.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from continuous_training.comparison import bootstrap, earlier_fit, latency, refit_rules, rules
from continuous_training.comparison.ground_truth import GroundTruth
from continuous_training.comparison.stored_model import open_model
from continuous_training.data.copies import read_columns
from continuous_training.data.row_groups import RowGroups
from continuous_training.data.snapshots import read_snapshot
from continuous_training.documents import Candidate, Refit, Rule, Run, Snapshot, Stopwatch, Verdict
from continuous_training.errors import UserError
from continuous_training.registry import refits, runs
from continuous_training.registry.refits import RefitTask
from continuous_training.stages import check_model, train
from continuous_training.versions import packing
from continuous_training.versions.examination import Policy
from continuous_training.versions.opening import examined_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from mlflow import MlflowClient

    from continuous_training.comparison.stored_model import StoredModel
    from continuous_training.settings import Refit as Limits
    from continuous_training.settings import Settings

log = logging.getLogger(__name__)

COMMON_ROWS = 20_000  # of the training rows, on which both models are compared


class RefitModel(NamedTuple):
    """A refit in MLflow: the run that made it, the address of its files, and what it has fitted."""

    run_id: str
    uri: str
    task: RefitTask


def refit(
    client: MlflowClient,
    run: Run,
    settings: Settings,
    snapshot: Snapshot,
    candidate: Candidate,
    verdict: Verdict,
    timer: Stopwatch,
) -> Refit:
    """Fit the candidate's recipe on all rows, or use the model of an interrupted run, and hold it to the candidate.

    If it fails, the verdict is not wasted: the candidate itself is registered.

    Raises:
        UserError: its verdict is not `promote`.
    """
    if verdict.decision != "promote":
        raise UserError(f"the candidate was rejected ({verdict.message}): it is not fitted once more")
    limits = settings.refit_limits
    if limits is None:
        return _keep_judged(candidate, snapshot, timer, "refit: false in training.yaml")
    model = None
    try:
        model = _make_refit(client, run, settings, snapshot, candidate, limits)
        results = _check(client, run, settings, snapshot, candidate, model, limits)
    except UserError as error:
        log.warning("%s", error)
        return _keep_judged(candidate, snapshot, timer, f"the refit failed: {error}", model)
    if failed := [rule for rule in results if rule.rejects]:
        reason = "; ".join(rule.message for rule in failed)
        return _keep_judged(candidate, snapshot, timer, reason, model, results)
    return Refit(
        decision="refit",
        message=f"the candidate's recipe on all {snapshot.train.rows + snapshot.fresh.rows:,} rows before "
        f"{snapshot.until:%Y-%m-%d}",
        model_uri=model.uri,
        trained_until=snapshot.until,
        run_id=model.run_id,
        rules=results,
        **timer.stop(),
    )


def _keep_judged(
    candidate: Candidate,
    snapshot: Snapshot,
    timer: Stopwatch,
    reason: str,
    model: RefitModel | None = None,
    results: list[Rule] | None = None,
) -> Refit:
    return Refit(
        decision="judged",
        message=f"the candidate itself, on rows before {snapshot.fresh_since:%Y-%m-%d}: {reason}",
        model_uri=candidate.model_uri,
        trained_until=snapshot.fresh_since,
        run_id=model.run_id if model else None,
        rules=results or [],
        **timer.stop(),
    )


def _make_refit(
    client: MlflowClient, run: Run, settings: Settings, snapshot: Snapshot, candidate: Candidate, limits: Limits
) -> RefitModel:
    """Return the signed refit of the candidate, which is fitted on the selected compute unless it is there already."""
    policy = Policy(run.model, settings.model)
    with examined_version(candidate.model_uri, policy, candidate.run_id) as (_, manifest):
        lineage = manifest.lineage
    earlier_until = None if limits.min_gain is None else _earlier_until(settings, snapshot)
    task = RefitTask(refits.recipe_of(lineage), earlier_until)
    tracked_run = client.get_run(candidate.run_id)
    run_id = refits.find_run(client, tracked_run, task)
    if run_id is None:
        run_id = refits.create_run(client, tracked_run, task)
        try:
            train.COMPUTE[run.compute](run, snapshot, run_id)
        except BaseException:
            refits.close_open_runs(client, tracked_run)
            raise
    else:
        log.info("Using the refit of MLflow run %s, which an earlier run made", run_id)
    uri = train.find_model(client, run_id)
    changes = {
        runs.TRAINED_UNTIL: snapshot.until.isoformat(),
        refits.JUDGED_MODEL: candidate.model_uri,
        refits.REFIT_RUN: run_id,
    }
    packing.sign_files(client, uri, run.model, settings, candidate.run_id, {**lineage, **changes})
    return RefitModel(run_id, uri, task)


def _earlier_until(settings: Settings, snapshot: Snapshot) -> datetime:
    """Return the end of the rows of the earlier fit.

    It is as much older than the rows that the candidate was fitted on as the fresh rows are newer, but it leaves half
    of these rows at least.
    """
    first: datetime = read_columns(snapshot.train.path, [settings.data.time])[settings.data.time].min().to_pydatetime()
    end = snapshot.fresh_since - timedelta(days=settings.model.validation_days or 0)
    step = min(snapshot.until - snapshot.fresh_since, (end - first) / 2)
    return end - step


def _check(
    client: MlflowClient,
    run: Run,
    settings: Settings,
    snapshot: Snapshot,
    candidate: Candidate,
    model: RefitModel,
    limits: Limits,
) -> list[Rule]:
    """Hold a refit to the candidate."""
    copy = candidate.model_copy(update={"model_uri": model.uri})
    checks = check_model.check(run, settings, snapshot, copy, Stopwatch(run.build_tag), check_model.REFIT_JUNIT).checks
    classes = settings.data.targets[0] if settings.model.task == "classification" else None
    rows = RowGroups(snapshot.train.path, settings.data).sample(COMMON_ROWS, classes)
    with (
        open_model(candidate.model_uri, candidate.run_id, run.model, settings, rows) as judged,
        open_model(model.uri, candidate.run_id, run.model, settings, rows) as refit,
    ):
        signature = refit_rules.check_signature(refit, judged)
        results = [*rules.check_behaviour(checks), signature, *_check_operation(refit, judged, settings)]
        if signature.passed:
            labels = rows[settings.data.target]
            results += refit_rules.check_agreement(refit.predictions, judged.predictions, labels, limits)
        if limits.min_gain is not None:
            results.append(_check_gain(client, settings, snapshot, model, judged, limits.min_gain))
    return results


def _check_operation(refit: StoredModel, judged: StoredModel, settings: Settings) -> Iterator[Rule]:
    """Check the refit's latency and size by the limits of the comparison."""
    limits = settings.compare
    if limits.max_milliseconds is not None or limits.max_slowdown is not None:
        medians = latency.milliseconds([model.time_first_row for model in (refit, judged)])
        if limits.max_milliseconds is not None:
            yield rules.check_latency(medians[0], limits.max_milliseconds)
        if limits.max_slowdown is not None:
            yield rules.check_slowdown(medians[0], medians[1], limits.max_slowdown, "the candidate's")
    if limits.max_megabytes is not None:
        yield rules.check_size(refit.megabytes, limits.max_megabytes)


def _check_gain(
    client: MlflowClient,
    settings: Settings,
    snapshot: Snapshot,
    model: RefitModel,
    judged: StoredModel,
    min_gain: float,
) -> Rule:
    """Compare the candidate with the earlier fit of the same recipe, on the fresh rows."""
    fresh = read_snapshot(snapshot.fresh.path, settings.data)
    predictions = judged.predict(fresh)
    fit, earlier = earlier_fit.load(client, model.run_id, predictions)
    if earlier is None or model.task.earlier_until is None:
        return refit_rules.skip_gain(fit.problem or "there is no earlier fit", min_gain)
    groups, truth = bootstrap.draw_groups(fresh, settings), GroundTruth.of(fresh, settings)
    gain, interval = refit_rules.measure_gain(predictions, earlier, truth, settings.compare, groups)
    end = snapshot.fresh_since - timedelta(days=settings.model.validation_days or 0)
    days = (end - model.task.earlier_until) / timedelta(days=1)
    return refit_rules.check_gain(gain, interval, min_gain, days, settings.compare)
