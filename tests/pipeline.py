"""The stages of a run in this process, from Set up to the one that a test is about."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from continuous_training import (
    check_data,
    compare,
    deploy,
    fit,
    plan,
    register,
    registry,
    settings,
    setup,
    snapshot,
    train,
)
from continuous_training.documents import Stopwatch

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.documents import Candidate, Check, Deployment, Plan, Registration, Run, Snapshot, Verdict


class Pipeline:
    """One run; the training entry point runs in this process, because starting another takes seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **parameters: str) -> None:
        for name, value in parameters.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setitem(train.COMPUTE, "local", self._fit_here)
        self.run: Run = setup.begin()
        self.given = settings.load(self.run.model)

    @cached_property
    def client(self) -> MlflowClient:
        return registry.open_client()

    @property
    def timer(self) -> Stopwatch:
        return Stopwatch(self.run.build_tag)

    def snapshot(self) -> Snapshot:
        self.taken = snapshot.take(self.run, self.given, self.timer)
        return self.taken

    def checks(self) -> list[Check]:
        return check_data.check(self.run, self.given, self.snapshot(), None)

    def plan(self) -> Plan:
        self.snapshot()
        self.planned = plan.make(self.client, self.run, self.given, self.taken, self.timer)
        return self.planned

    def train(self) -> Candidate:
        self.plan()
        self.candidate = train.train(self.client, self.run, self.taken, self.planned, self.timer)
        return self.candidate

    def compare(self) -> Verdict:
        self.train()
        self.verdict = compare.judge(self.client, self.run, self.given, self.taken, self.candidate, self.timer)
        return self.verdict

    def register(self) -> Registration:
        self.compare()
        self.registered = register.register(self.client, self.run, self.candidate, self.verdict, self.timer)
        return self.registered

    def promote(self) -> registry.Version:
        """Make the candidate champion, as Deploy does when every server follows."""
        self.register()
        version = registry.version(self.client, self.registered.name, self.registered.model_version)
        registry.promote(self.client, version)
        self.client.set_tag(self.candidate.run_id, registry.OUTCOME, registry.DEPLOYED)
        return version

    def deploy(self) -> Deployment:
        self.register()
        return deploy.deploy(self.client, self.run, self.candidate, self.registered, self.timer)

    @staticmethod
    def _fit_here(run: Run, taken: Snapshot, run_id: str) -> None:
        os.environ["MLFLOW_RUN_ID"] = run_id
        try:
            fit.fit(run.model, taken.train.path.parent)
        finally:
            os.environ.pop("MLFLOW_RUN_ID", None)
