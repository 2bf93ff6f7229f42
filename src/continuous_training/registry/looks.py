"""Looks in MLflow: a tag of the candidate's run has the comparison with the champion, for those that follow."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import ValidationError

from continuous_training.documents import Look
from continuous_training.registry.runs import experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

LOOK = "ct.look"
MAX_RUNS = 500  # the newest that were compared: of nightly runs those of more than a year


def find(client: MlflowClient, model: str) -> list[Look]:
    """Return the comparisons of a model's candidates with a champion, the last one first.

    One of which the tag cannot be read is left out, with a warning.
    """
    looks = []
    for run in client.search_runs(
        [experiment_id(client, model)],
        f"tags.`{LOOK}` LIKE '{{%' and attributes.status = 'FINISHED'",
        max_results=MAX_RUNS,
        order_by=["attributes.start_time DESC"],
    ):
        try:
            looks.append(Look.model_validate_json(run.data.tags[LOOK]))
        except ValidationError:
            log.warning(
                "The tag %s of MLflow run %s cannot be read: the comparison is not counted", LOOK, run.info.run_id
            )
    return looks


def record(client: MlflowClient, run_id: str, look: Look) -> None:
    """Store the comparison of the candidate of an MLflow run."""
    client.set_tag(run_id, LOOK, look.model_dump_json())
