"""MLflow runs: one per training, identified by tags that begin with `ct.`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from continuous_training.errors import UserError
from continuous_training.registry.connection import clip, none_if_missing, tracking_uri
from continuous_training.settings import STATE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as TrackedRun

    from continuous_training.documents import Run

FINGERPRINT = "ct.fingerprint"
TRIAL_OF = "ct.trial_of"  # the fingerprint, on each trial of a grid or a search
OUTCOME = "ct.outcome"  # set last: a run without one was interrupted
DEPLOYED, REJECTED, HELD, UNAPPROVED = "deployed", "rejected", "held", "not approved"
ROLLED_BACK = "rolled back"
TRIGGER, REASON, AS_OF = "ct.trigger", "ct.reason", "ct.as_of"
EVIDENCE = "ct.evidence"  # where the monitor's evidence is, on a run that the monitor triggered
TRAINED_UNTIL = "ct.trained_until"
RECIPE = "ct.recipe"  # JSON: the parameters that were found, and the number of steps
REFIT_OF = "ct.refit_of"  # on the run of a refit: the run of its candidate
EARLIER_UNTIL = "ct.earlier_until"  # on the same run: the end of the rows of the earlier fit, if there is one
TERMS = "ct.terms"  # hash of the rules and the champion that the verdict depends on


def experiment_id(client: MlflowClient, model: str) -> str:
    """Return the id of the model's experiment, which is created if it does not exist.

    Raises:
        UserError: it was deleted, so that no run can be added to it.
    """
    experiment = client.get_experiment_by_name(model)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        command = f".venv/bin/mlflow experiments restore --experiment-id {experiment.experiment_id}"
        raise UserError(
            f"the MLflow experiment {model} was deleted: restore it with {command}, where MLFLOW_TRACKING_URI is the "
            "tracking server"
        )
    if experiment is not None:
        return str(experiment.experiment_id)
    is_embedded = tracking_uri().startswith("sqlite")
    artifacts = (STATE / "artifacts" / model).resolve().as_uri() if is_embedded else None
    return str(client.create_experiment(model, artifact_location=artifacts))


def find_training_run(
    client: MlflowClient, model: str, fingerprint: str, outcome: str | None = None
) -> TrackedRun | None:
    """Return the newest finished MLflow run that trained this fingerprint, or the newest with this outcome."""
    query = f"tags.`{FINGERPRINT}` = '{fingerprint}' and attributes.status = 'FINISHED'"
    runs = client.search_runs(
        [experiment_id(client, model)],
        query if outcome is None else f"{query} and tags.`{OUTCOME}` = '{outcome}'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return runs[0] if runs else None


def find_run_with_same_trigger(client: MlflowClient, run: Run, since: datetime) -> TrackedRun | None:
    """Return the newest MLflow run since then with the same trigger and reason, if it has reached a verdict.

    Its AS_OF may differ by one day, because a ping may arrive just after midnight.
    """
    same_trigger = f"tags.`{TRIGGER}` = '{run.trigger}' and attributes.start_time >= {since.timestamp() * 1000:.0f}"
    runs = client.search_runs(
        [experiment_id(client, run.model)],
        f"{same_trigger} and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
    )
    for tracked_run in runs:
        tags = tracked_run.data.tags
        has_verdict = tags.get(OUTCOME) in {DEPLOYED, REJECTED, HELD, UNAPPROVED}
        distance = abs(datetime.fromisoformat(tags[AS_OF]) - run.as_of)
        if has_verdict and tags.get(REASON, "") == clip(run.reason) and distance <= timedelta(days=1):
            return tracked_run
    return None


def close_open_runs(client: MlflowClient, model: str, fingerprint: str) -> None:
    """End the MLflow runs of this fingerprint, trials included, that a killed or failed run left open."""
    for tag in (FINGERPRINT, TRIAL_OF):
        open_runs = f"tags.`{tag}` = '{fingerprint}' and attributes.status = 'RUNNING'"
        for tracked_run in client.search_runs([experiment_id(client, model)], open_runs):
            client.set_terminated(tracked_run.info.run_id, status="KILLED")


def fail_open_run(client: MlflowClient, run_id: str) -> None:
    """End an MLflow run as failed if it is still open."""
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, status="FAILED")


def set_outcome(client: MlflowClient, run_id: str, outcome: str) -> None:
    """Set the outcome of an MLflow run; a run that was deleted is ignored, because it must not stop a rollback."""
    none_if_missing(lambda: client.set_tag(run_id, OUTCOME, outcome), f"MLflow run {run_id}")


def clear_outcome(client: MlflowClient, run_id: str) -> None:
    """Remove the outcome of an MLflow run that continues: until it has one again, it counts as interrupted."""
    if OUTCOME in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, OUTCOME)
