"""MLflow runs: one for each training, found again by its tags, all of which begin with `ct.`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from continuous_training.registry.connection import clip, if_there, tracking_uri
from continuous_training.settings import STATE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as TrackedRun

    from continuous_training.documents import Run

FINGERPRINT = "ct.fingerprint"
TRIAL_OF = "ct.trial_of"  # the fingerprint, on each trial of a grid; only the best becomes its candidate
OUTCOME = "ct.outcome"  # how far a run got: set last, so a run without one was interrupted
DEPLOYED, REJECTED, HELD, UNAPPROVED = "deployed", "rejected", "held", "not approved"
ROLLED_BACK = "rolled back"
TRIGGER, REASON, AS_OF = "ct.trigger", "ct.reason", "ct.as_of"
EVIDENCE = "ct.evidence"  # where the monitor's evidence is, on a run that the monitor has started
TRAINED_UNTIL = "ct.trained_until"
TERMS = "ct.terms"  # hash of what the verdict was judged by


def experiment(client: MlflowClient, model: str) -> str:
    """Return the id of the model's experiment; create it if this is its first run."""
    found = client.get_experiment_by_name(model)
    if found is not None:
        return str(found.experiment_id)
    embedded = tracking_uri().startswith("sqlite")
    artifacts = (STATE / "artifacts" / model).resolve().as_uri() if embedded else None
    return str(client.create_experiment(model, artifact_location=artifacts))


def find_trained(client: MlflowClient, model: str, fingerprint: str, outcome: str | None = None) -> TrackedRun | None:
    """Return the newest finished MLflow run that trained this fingerprint, or the newest with this outcome."""
    ended = f"tags.`{FINGERPRINT}` = '{fingerprint}' and attributes.status = 'FINISHED'"
    runs = client.search_runs(
        [experiment(client, model)],
        ended if outcome is None else f"{ended} and tags.`{OUTCOME}` = '{outcome}'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return runs[0] if runs else None


def find_answered(client: MlflowClient, run: Run, since: datetime) -> TrackedRun | None:
    """Return the newest MLflow run that was asked for in the same words since then, and has come to a verdict.

    Words of another day's data are other words: as_of counts days, and a ping may come just after midnight.
    """
    asked = f"tags.`{TRIGGER}` = '{run.trigger}' and attributes.start_time >= {since.timestamp() * 1000:.0f}"
    runs = client.search_runs(
        [experiment(client, run.model)],
        f"{asked} and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
    )
    for found in runs:
        tags = found.data.tags
        judged = tags.get(OUTCOME) in {DEPLOYED, REJECTED, HELD, UNAPPROVED}
        apart = abs(datetime.fromisoformat(tags[AS_OF]) - run.as_of)
        if judged and tags.get(REASON, "") == clip(run.reason) and apart <= timedelta(days=1):
            return found
    return None


def close_interrupted(client: MlflowClient, model: str, fingerprint: str) -> None:
    """End the MLflow runs of this fingerprint that a killed or failed run left open, its trials among them."""
    for tag in (FINGERPRINT, TRIAL_OF):
        open_runs = f"tags.`{tag}` = '{fingerprint}' and attributes.status = 'RUNNING'"
        for found in client.search_runs([experiment(client, model)], open_runs):
            client.set_terminated(found.info.run_id, status="KILLED")


def close_as_failed(client: MlflowClient, run_id: str) -> None:
    """End an MLflow run as failed, if whoever filled it left it open."""
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, status="FAILED")


def set_outcome(client: MlflowClient, run_id: str, outcome: str) -> None:
    """Write down how far a run got, unless somebody has deleted it: that must not stop a rollback."""
    if_there(lambda: client.set_tag(run_id, OUTCOME, outcome), f"MLflow run {run_id}")


def clear_outcome(client: MlflowClient, run_id: str) -> None:
    """Forget how far a run got, because it goes on: until it is concluded again, it counts as interrupted."""
    if OUTCOME in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, OUTCOME)
