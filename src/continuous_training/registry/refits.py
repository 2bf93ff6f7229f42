"""Refits in MLflow: each is a run below that of its candidate, to which the version belongs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from continuous_training.documents import Recipe
from continuous_training.errors import UserError
from continuous_training.registry import runs
from continuous_training.registry.trials import PARENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient
    from mlflow.entities import Run as TrackedRun

JUDGED_MODEL = "ct.judged_model"  # in a refit's lineage: its judged twin
REFIT_RUN = "ct.refit_run"  # in a refit's lineage, and on the run of its candidate


class RefitTask(NamedTuple):
    """What a refit fits.

    Attributes:
        recipe: how the candidate was fitted.
        earlier_until: the time before which the rows of the earlier fit lie; None fits
            none.
    """

    recipe: Recipe
    earlier_until: datetime | None


def recipe_of(lineage: Mapping[str, str]) -> Recipe:
    """Return how a model was fitted, from its lineage.

    Raises:
        UserError: an earlier release has fitted it, which did not store this, or what is stored is malformed.
    """
    text = lineage.get(runs.RECIPE)
    if text is None:
        raise UserError("an earlier release trained the candidate, and did not store how")
    try:
        return Recipe.model_validate_json(text)
    except ValidationError:
        raise UserError(f"the tag {runs.RECIPE} is malformed") from None


def read_task(tags: Mapping[str, str]) -> RefitTask | None:
    """Return what the MLflow run of a refit fits; None of any other run.

    Raises:
        UserError: its tags are malformed.
    """
    if runs.REFIT_OF not in tags:
        return None
    until = tags.get(runs.EARLIER_UNTIL)
    return RefitTask(recipe_of(tags), datetime.fromisoformat(until) if until else None)


def find_run(client: MlflowClient, candidate: TrackedRun, task: RefitTask) -> str | None:
    """Return the id of the newest finished run that did this refit of a candidate."""
    query = f"tags.`{runs.REFIT_OF}` = '{candidate.info.run_id}' and attributes.status = 'FINISHED'"
    order = ["attributes.start_time DESC"]
    complete = client.search_runs([candidate.info.experiment_id], query, order_by=order)
    return next((str(run.info.run_id) for run in complete if read_task(run.data.tags) == task), None)


def create_run(client: MlflowClient, candidate: TrackedRun, task: RefitTask) -> str:
    """Create the run of a refit, whose tags tell the training entry point what to fit; return its id."""
    close_open_runs(client, candidate)
    tags = {
        PARENT: candidate.info.run_id,
        runs.REFIT_OF: candidate.info.run_id,
        runs.RECIPE: task.recipe.model_dump_json(),
    }
    if task.earlier_until:
        tags[runs.EARLIER_UNTIL] = task.earlier_until.isoformat()
    run = client.create_run(candidate.info.experiment_id, run_name=f"{candidate.info.run_name}-refit", tags=tags)
    client.set_tag(candidate.info.run_id, REFIT_RUN, run.info.run_id)
    return str(run.info.run_id)


def close_open_runs(client: MlflowClient, candidate: TrackedRun) -> None:
    """End the runs of this candidate's refits that a killed or failed run left open."""
    query = f"tags.`{runs.REFIT_OF}` = '{candidate.info.run_id}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([candidate.info.experiment_id], query):
        client.set_terminated(run.info.run_id, status="KILLED")
