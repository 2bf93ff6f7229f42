"""Killed with -9 before each call that changes the registry: there is one champion, and the next run carries on.

What a call leaves is the same whether the kill comes right after it or right before the next one; so the last kill of
each test comes after the last call, when there is nothing left to do.
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

import doomed
from continuous_training.registry import model_versions, promotion
from continuous_training.serving.following import follower
from continuous_training.versions import golden_predictions, loading
from pipeline import Pipeline
from server import Server
from toy import change, events, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.integration(seconds=60), pytest.mark.usefixtures("tracked")]

# What takes every process that is to be killed seconds to import, and is imported once: its stores MLflow loads lazily
IMPORTED = [
    "continuous_training.stages.deploy",
    "continuous_training.stages.roll_back",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
]


def killed_at_each_call(folder: Path, work: Callable[..., None], *given: Any) -> Iterator[list[str]]:
    """Do a piece of work again and again from the same registry, and kill it one call later each time.

    Yields the calls of each process after it was killed, the last of them not made.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(IMPORTED)
    database, kept = folder / ".ct/mlflow.db", folder / "kept.db"
    copy(database, kept)
    made: list[str] = []
    while doomed.THE_END not in made:
        copy(kept, database)
        survives = len(made)
        process = processes.Process(target=doomed.live, args=(survives, dict(os.environ), folder, work, *given))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        made = doomed.CALLS.read_text().splitlines()
        assert len(made) == survives + 1
        yield made


def copy(source: Path, target: Path) -> None:
    """Copy a database that may be open elsewhere."""
    with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
        read.backup(written)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(follower, "POLL_SECONDS", 0.1)
    with Server() as running:
        monkeypatch.setenv("SERVING_URLS", running.url)
        yield running


def a_better_one(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Deploy a champion that has learnt from noise, then train and judge a candidate that has not."""
    change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.1}")
    noise = events()
    noise["late"] = np.random.default_rng(1).random(len(noise)) < 0.5
    store(noise)
    Pipeline(monkeypatch).deploy()
    store(events())
    run = Pipeline(monkeypatch, AS_OF="2020-03-20")
    assert run.compare().decision == "promote"
    return run


def answers_with(server: Server, version: model_versions.Version) -> None:
    """See that the stored version loads, that the server follows it and that both say the same."""
    rows, answers = golden_predictions.read_golden_predictions(version.run_id)
    loading.load(version.uri, ("numpy.dtype",))
    server.wait_for_version(version.number)
    told = server.invoke(dataframe_split=rows)
    assert told.headers["X-Model-Version"] == version.number
    assert np.allclose(told.json()["predictions"], answers)


def test_register_and_deploy_beside_a_champion(monkeypatch: pytest.MonkeyPatch, server: Server, tracked: Path) -> None:
    run = a_better_one(monkeypatch)
    seen = set()
    for made in killed_at_each_call(tracked, doomed.register_and_deploy, run.run, run.candidate, run.verdict):
        champion = model_versions.by_alias(run.client, "toy", model_versions.CHAMPION)
        assert champion is not None, made
        answers_with(server, champion)
        seen.add(champion.number)
        following = Pipeline(monkeypatch)
        if following.make_plan().decision == "train":
            following.deploy()
        assert following.aliases == {"candidate": "2", "previous": "1", "champion": "2"}, made
        assert promotion.read_aliases(run.client, "toy").claims == {}, made
        answers_with(server, model_versions.by_number(run.client, "toy", "2"))
        assert Pipeline(monkeypatch).make_plan().decision == "nothing", made
    assert seen == {"1", "2"}
    assert {"create_registered_model", "create_model_version", "set_registered_model_alias"} < set(made)


def test_register_and_deploy_of_the_first_model(monkeypatch: pytest.MonkeyPatch, server: Server, tracked: Path) -> None:
    run = Pipeline(monkeypatch)
    run.compare()
    for made in killed_at_each_call(tracked, doomed.register_and_deploy, run.run, run.candidate, run.verdict):
        following = Pipeline(monkeypatch)
        if following.make_plan().decision == "train":
            following.deploy()
        assert following.aliases == {"candidate": "1", "champion": "1"}, made
        assert promotion.read_aliases(run.client, "toy").claims == {}, made
        answers_with(server, model_versions.by_number(run.client, "toy", "1"))


def test_rollback(monkeypatch: pytest.MonkeyPatch, server: Server, tracked: Path) -> None:
    """A rollback that was killed was either not begun, or the next run's Plan ends it."""
    run = a_better_one(monkeypatch)
    run.deploy()
    began = False
    for made in killed_at_each_call(tracked, doomed.roll_back_champion):
        answers_with(server, model_versions.by_alias(run.client, "toy", model_versions.CHAMPION))
        Pipeline(monkeypatch).make_plan()
        assert promotion.read_aliases(run.client, "toy").claims == {}, made
        if began or run.aliases["champion"] == "1":
            began = True
            assert run.aliases == {"candidate": "2", "champion": "1"}, made
            assert model_versions.by_number(run.client, "toy", "2").rollback_reason == "it predicts nonsense", made
        else:
            assert run.aliases == {"candidate": "2", "champion": "2", "previous": "1"}, made
            assert model_versions.by_number(run.client, "toy", "2").rollback_reason is None, made
        answers_with(server, model_versions.by_alias(run.client, "toy", model_versions.CHAMPION))
    assert began
