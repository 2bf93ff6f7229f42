"""The stages of a run in this process, from Set up to the one that a test is about."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from continuous_training.documents import ModelCheck, Stopwatch, Verdict
from continuous_training.registry import connection, model_versions, promotion
from continuous_training.settings import load_settings
from continuous_training.stages import check_data, compare, deploy, fit, register, set_up, train
from continuous_training.stages.plan import make_plan
from continuous_training.stages.snapshot import take_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient

    from continuous_training.compute import Trial
    from continuous_training.documents import Candidate, Check, Deployment, Plan, Registration, Run, Snapshot


class Pipeline:
    """One run; the training entry point runs in this process, because starting another takes seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **parameters: str) -> None:
        for name, value in parameters.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setitem(train.COMPUTE, "local", self._fit_here)
        self.run: Run = set_up.begin()
        self.given = load_settings(self.run.model)

    @cached_property
    def client(self) -> MlflowClient:
        return connection.open_client()

    @property
    def aliases(self) -> dict[str, str]:
        found = model_versions.registered_model(self.client, self.run.model)
        return {alias: str(number) for alias, number in found.aliases.items()} if found else {}

    @property
    def timer(self) -> Stopwatch:
        return Stopwatch(self.run.build_tag)

    def snapshot(self) -> Snapshot:
        self.taken = take_snapshot(self.run, self.given, self.timer)
        return self.taken

    def checks(self) -> list[Check]:
        return check_data.check(self.run, self.given, self.snapshot(), None)

    def plan(self) -> Plan:
        self.snapshot()
        self.planned = make_plan(self.client, self.run, self.given, self.taken, self.timer)
        return self.planned

    def train(self) -> Candidate:
        self.plan()
        self.candidate = train.train(self.client, self.run, self.given, self.taken, self.planned, self.timer)
        return self.candidate

    def compare(self, *checks: Check) -> Verdict:
        self.train()
        checked = ModelCheck(checks=[*checks], **self.timer.stop())
        self.verdict = compare.compare(
            self.client, self.run, self.given, self.taken, self.candidate, checked, self.timer
        )
        return self.verdict

    def win(self) -> Verdict:
        """Let the candidate win, whatever Compare would say."""
        self.train()
        champion = model_versions.by_alias(self.client, self.run.model, model_versions.CHAMPION)
        self.verdict = Verdict(
            decision="promote",
            message="it is to win",
            champion=champion.number if champion else None,
            fresh_rows=0,
            confidence=0.95,
            metrics=[],
            rules=[],
            curves=[],
            **self.timer.stop(),
        )
        return self.verdict

    def register(self, *, judged: bool = True) -> Registration:
        verdict = self.compare() if judged else self.win()
        self.registered = register.register(self.client, self.run, self.candidate, verdict, self.timer)
        return self.registered

    def promote(self, *, judged: bool = True) -> model_versions.Version:
        """Make the candidate champion, as Deploy does when every server follows."""
        self.register(judged=judged)
        return self.promote_registered()

    def promote_registered(self) -> model_versions.Version:
        number = self.registered.model_version
        with promotion.lock(self.client, self.run.model, self.run.build_tag, "promoting") as lock:
            lock.confirm(lock.promote(number, self.verdict.champion, force=False))
        version = model_versions.by_number(self.client, self.run.model, number)
        assert version is not None
        return version

    def deploy(self, *, judged: bool = True) -> Deployment:
        self.register(judged=judged)
        return self.deploy_registered()

    def deploy_registered(self) -> Deployment:
        return deploy.deploy(
            self.client, self.run, self.given, self.candidate, self.registered, self.verdict, self.timer
        )

    @staticmethod
    def _fit_here(run: Run, taken: Snapshot, trials: Sequence[Trial]) -> None:
        for trial in trials:
            os.environ["MLFLOW_RUN_ID"] = trial.run_id
            try:
                fit.fit(run.model, taken.train.path.parent, trial.parameters)
            finally:
                os.environ.pop("MLFLOW_RUN_ID", None)
