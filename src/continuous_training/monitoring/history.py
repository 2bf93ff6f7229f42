"""The history of a model's checks: one MLflow run for each check, in the experiment `<model>.monitor`.

A run has a summary in a tag, so that one request reads the summaries of many checks. Its artifacts are the whole
report and, if a training was requested, Evidently's report.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import AliasChoices, Field, ValidationError

from continuous_training.documents import Value
from continuous_training.registry import connection, runs
from continuous_training.urls import without_password

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient

TAG = "ct.examination"
ARTIFACT = "examination.json"


class CheckSummary(Value):
    """The summary of one check; `ratio` is the largest distance of all columns, divided by its limit."""

    at: datetime
    version: str | None
    verdict: str
    ratio: float | None
    metric: float | None = None
    ping_sent: bool = Field(default=False, validation_alias=AliasChoices("ping_sent", "pinged"))


def start_run(client: MlflowClient, model: str, name: str) -> str:
    """Start the MLflow run of a check; return its id."""
    return str(client.create_run(_experiment(client, model), run_name=name).info.run_id)


def run_url(client: MlflowClient, run_id: str) -> str:
    """Return the run's page on the MLflow server, or its `runs:/` URI if there is no server."""
    uri = connection.tracking_uri()
    if not uri.startswith(("http://", "https://")):
        return f"runs:/{run_id}"
    experiment = client.get_run(run_id).info.experiment_id
    return f"{without_password(uri).rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"


def finish_run(client: MlflowClient, run_id: str, summary: CheckSummary, report: str, page: Path | None) -> None:
    """Log the summary, the report as JSON and Evidently's page, and end the run."""
    client.log_text(run_id, report, ARTIFACT)
    if page:
        client.log_artifact(run_id, str(page))
    client.set_tag(run_id, TAG, summary.model_dump_json(exclude_none=True))
    client.set_terminated(run_id)


def read_history(client: MlflowClient, model: str, limit: int) -> list[CheckSummary]:
    """Return the summaries of the last finished checks, the newest last."""
    summaries = []
    finished = client.search_runs(
        [_experiment(client, model)],
        "attributes.status = 'FINISHED'",
        max_results=limit,
        order_by=["attributes.start_time DESC"],
    )
    for run in finished:
        try:
            summaries.append(CheckSummary.model_validate_json(run.data.tags.get(TAG, "")))
        except ValidationError:
            continue  # a run of another program
    return summaries[::-1]


def _experiment(client: MlflowClient, model: str) -> str:
    return runs.experiment_id(client, f"{model}.monitor")
