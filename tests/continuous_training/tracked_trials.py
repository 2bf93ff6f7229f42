"""The trials of a grid or a search in MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from continuous_training.registry import runs, trials

if TYPE_CHECKING:
    import pytest
    from mlflow import MlflowClient
    from mlflow.entities import Run as TrackedRun


def find_trials(client: MlflowClient) -> list[TrackedRun]:
    """Return the MLflow runs of the toy model's trials, the oldest first."""
    query = f"tags.`{trials.PARENT}` != ''"
    order = ["attributes.start_time ASC"]
    return list(client.search_runs([runs.experiment_id(client, "toy")], query, order_by=order))


def interrupt_after(count: int, patch: pytest.MonkeyPatch) -> None:
    """Interrupt the training when MLflow has so many trials."""
    added, add = [], trials.add_trial

    def interrupt(*arguments: Any) -> None:
        add(*arguments)
        added.append(arguments)
        if len(added) == count:
            raise KeyboardInterrupt

    patch.setattr(trials, "add_trial", interrupt)
