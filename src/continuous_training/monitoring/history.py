"""The history of a model's examinations: one MLflow run for each, in an experiment of their own beside the model's.

A run has the examination in few words in a tag, so that many are read in one question; the whole of it as an artifact;
and Evidently's page, where a training was asked for.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from continuous_training.documents import Value
from continuous_training.registry import connection, runs
from continuous_training.urls import without_password

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient

TAG = "ct.examination"
DOCUMENT = "examination.json"


class Look(Value):
    """An examination in few words; `ratio` is how far the furthest column lay, in parts of its limit."""

    at: datetime
    version: str | None
    verdict: str
    ratio: float | None
    metric: float | None = None
    pinged: bool = False


def begin(client: MlflowClient, model: str, name: str) -> str:
    """Begin the MLflow run of an examination."""
    return str(client.create_run(_experiment(client, model), run_name=name).info.run_id)


def address(client: MlflowClient, run_id: str) -> str:
    """Return where a person, or a program, finds an examination."""
    uri = connection.tracking_uri()
    if not uri.startswith(("http://", "https://")):
        return f"runs:/{run_id}"
    experiment = client.get_run(run_id).info.experiment_id
    return f"{without_password(uri).rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"


def end(client: MlflowClient, run_id: str, look: Look, document: str, page: Path | None) -> None:
    """Keep what an examination found."""
    client.log_text(run_id, document, DOCUMENT)
    if page:
        client.log_artifact(run_id, str(page))
    client.set_tag(run_id, TAG, look.model_dump_json(exclude_none=True))
    client.set_terminated(run_id)


def past(client: MlflowClient, model: str, most: int) -> list[Look]:
    """Return the last examinations that came to their end, the newest last."""
    found = []
    runs = client.search_runs(
        [_experiment(client, model)],
        "attributes.status = 'FINISHED'",
        max_results=most,
        order_by=["attributes.start_time DESC"],
    )
    for run in runs:
        try:
            found.append(Look.model_validate_json(run.data.tags.get(TAG, "")))
        except ValidationError:
            continue  # another program's
    return found[::-1]


def _experiment(client: MlflowClient, model: str) -> str:
    return runs.experiment_id(client, f"{model}.monitor")
