"""A run that is killed before any call that changes the registry: there is one champion, and the next run continues.

A kill after a call leaves the same state as a kill before the next one, so the last kill of each test is after the last
call.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import killed_process
from continuous_training.registry import holds, model_versions, promotion
from continuous_training.serving.following import follower
from pipeline import Pipeline
from server import Server
from stored_versions import load_estimator, read_golden_predictions
from toy import change, events, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.integration(seconds=60), pytest.mark.usefixtures("mlflow_workspace")]

# Imported once for all processes, because it takes seconds; MLflow imports its stores lazily
PRELOADED_MODULES = [
    "continuous_training.stages.deploy",
    "continuous_training.stages.roll_back",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
]


def kill_at_each_call(folder: Path, work: Callable[..., None], *arguments: Any) -> Iterator[list[str]]:
    """Repeat the work in processes that start from the same registry, each killed one call later than the one before.

    Yields the calls of each process after it was killed; the last call was not executed.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED_MODULES)
    database, backup = folder / ".ct/mlflow.db", folder / "backup.db"
    copy(database, backup)
    calls: list[str] = []
    while killed_process.THE_END not in calls:
        copy(backup, database)
        completed = len(calls)
        process = processes.Process(
            target=killed_process.work_until_killed, args=(completed, dict(os.environ), folder, work, *arguments)
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        calls = killed_process.CALLS.read_text().splitlines()
        assert len(calls) == completed + 1
        yield calls


def copy(source: Path, target: Path) -> None:
    """Copy a database that may be open elsewhere."""
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(target)) as backup:
        original.backup(backup)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(follower, "POLL_SECONDS", 0.1)
    with Server() as server:
        monkeypatch.setenv("SERVING_URLS", server.url)
        yield server


def compare_better_candidate(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Deploy a champion that is trained on noise, then train and compare a better candidate."""
    change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.1}")
    noise = events()
    noise["late"] = np.random.default_rng(1).random(len(noise)) < 0.5
    store(noise)
    Pipeline(monkeypatch).deploy()
    store(events())
    run = Pipeline(monkeypatch, AS_OF="2020-03-20")
    assert run.compare().decision == "promote"
    return run


def check_server(server: Server, version: model_versions.Version) -> None:
    """Check that the version can be loaded, and that the server serves it with the same predictions."""
    rows, predictions = read_golden_predictions(version.uri)
    load_estimator(version.uri)
    server.wait_for_version(version.number)
    response = server.invoke(dataframe_split=rows)
    assert response.headers["X-Model-Version"] == version.number
    assert np.allclose(response.json()["predictions"], predictions)


def test_killing_register_and_deploy_with_a_champion(
    monkeypatch: pytest.MonkeyPatch, server: Server, mlflow_workspace: Path
) -> None:
    run = compare_better_candidate(monkeypatch)
    champions = set()
    for calls in kill_at_each_call(
        mlflow_workspace, killed_process.register_and_deploy, run.run, run.candidate, run.verdict, run.keep_judged()
    ):
        champion = model_versions.by_alias(run.client, "toy", model_versions.CHAMPION)
        assert champion is not None, calls
        check_server(server, champion)
        champions.add(champion.number)
        following = Pipeline(monkeypatch)
        if following.make_plan().decision == "train":
            following.deploy(compare=False)  # the verdict does not depend on the kill
        assert following.aliases == {"candidate": "2", "previous": "1", "champion": "2"}, calls
        assert promotion.read_aliases(run.client, "toy").claims == {}, calls
        check_server(server, model_versions.by_number(run.client, "toy", "2"))
        assert Pipeline(monkeypatch).make_plan().decision == "nothing", calls
    assert champions == {"1", "2"}
    assert {"create_registered_model", "create_model_version", "set_registered_model_alias"} < set(calls)


def test_killing_register_and_deploy_of_the_first_model(
    monkeypatch: pytest.MonkeyPatch, server: Server, mlflow_workspace: Path
) -> None:
    run = Pipeline(monkeypatch)
    run.compare()
    for calls in kill_at_each_call(
        mlflow_workspace, killed_process.register_and_deploy, run.run, run.candidate, run.verdict, run.keep_judged()
    ):
        following = Pipeline(monkeypatch)
        if following.make_plan().decision == "train":
            following.deploy(compare=False)  # the verdict does not depend on the kill
        assert following.aliases == {"candidate": "1", "champion": "1"}, calls
        assert promotion.read_aliases(run.client, "toy").claims == {}, calls
        check_server(server, model_versions.by_number(run.client, "toy", "1"))


def test_killing_a_rollback(monkeypatch: pytest.MonkeyPatch, server: Server, mlflow_workspace: Path) -> None:
    """A killed rollback was either not started, or the next run's Plan completes it."""
    run = compare_better_candidate(monkeypatch)
    run.deploy()
    is_rolled_back = False
    for calls in kill_at_each_call(mlflow_workspace, killed_process.roll_back_champion):
        check_server(server, model_versions.by_alias(run.client, "toy", model_versions.CHAMPION))
        Pipeline(monkeypatch).make_plan()
        assert promotion.read_aliases(run.client, "toy").claims == {}, calls
        if is_rolled_back or run.aliases["champion"] == "1":
            is_rolled_back = True
            assert run.aliases == {"candidate": "2", "champion": "1"}, calls
            assert holds.find(run.client, "toy").reason == "version 2 was rolled back: it predicts nonsense", calls
            assert model_versions.by_number(run.client, "toy", "2").rollback_reason == "it predicts nonsense", calls
        else:
            assert run.aliases == {"candidate": "2", "champion": "2", "previous": "1"}, calls
            assert model_versions.by_number(run.client, "toy", "2").rollback_reason is None, calls
        check_server(server, model_versions.by_alias(run.client, "toy", model_versions.CHAMPION))
    assert is_rolled_back
