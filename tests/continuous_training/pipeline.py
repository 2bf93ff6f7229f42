"""The stages of a run in this process, from Set up to the one under test."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from continuous_training.documents import ModelCheck, Refit, Stopwatch, Verdict
from continuous_training.registry import connection, model_versions, promotion
from continuous_training.settings import load_settings
from continuous_training.stages import check_data, compare, deploy, fit, refit, register, set_up, train
from continuous_training.stages.plan import make_plan
from continuous_training.stages.snapshot import take_snapshot

if TYPE_CHECKING:
    import pytest
    from mlflow import MlflowClient

    from continuous_training.documents import Candidate, Check, Deployment, Plan, Registration, Run, Snapshot


class Pipeline:
    """One run. Each method runs a stage and the stages before it; the documents of the last ones are attributes.

    The training entry point runs in this process, because another Python takes seconds to start.
    """

    snapshot: Snapshot
    plan: Plan
    candidate: Candidate
    verdict: Verdict
    registration: Registration

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **parameters: str) -> None:
        for name, value in parameters.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setitem(train.COMPUTE, "local", self._fit)
        self.run: Run = set_up.begin()
        self.settings = load_settings(self.run.model)

    @cached_property
    def client(self) -> MlflowClient:
        return connection.open_client()

    @property
    def aliases(self) -> dict[str, str]:
        model = model_versions.registered_model(self.client, self.run.model)
        return {alias: str(number) for alias, number in model.aliases.items()} if model else {}

    @property
    def timer(self) -> Stopwatch:
        return Stopwatch(self.run.build_tag)

    def take_snapshot(self) -> Snapshot:
        self.snapshot = take_snapshot(self.run, self.settings, self.timer)
        return self.snapshot

    def check_data(self) -> list[Check]:
        return check_data.check(self.run, self.settings, self.take_snapshot(), None)

    def make_plan(self) -> Plan:
        self.take_snapshot()
        self.plan = make_plan(self.client, self.run, self.settings, self.snapshot, self.timer)
        return self.plan

    def train(self) -> Candidate:
        self.make_plan()
        self.candidate = train.train(self.client, self.run, self.settings, self.snapshot, self.plan, self.timer)
        return self.candidate

    def compare(self, *checks: Check) -> Verdict:
        self.train()
        model_check = ModelCheck(checks=[*checks], **self.timer.stop())
        self.verdict = compare.compare(
            self.client, self.run, self.settings, self.snapshot, self.candidate, model_check, self.timer
        )
        return self.verdict

    def skip_compare(self) -> Verdict:
        """Train, with the verdict `promote` whatever the candidate is worth."""
        self.train()
        champion = model_versions.by_alias(self.client, self.run.model, model_versions.CHAMPION)
        self.verdict = Verdict(
            decision="promote",
            message="not compared",
            champion=champion.number if champion else None,
            fresh_rows=0,
            confidence=0.95,
            metrics=[],
            rules=[],
            curves=[],
            **self.timer.stop(),
        )
        return self.verdict

    def register(self, *, compare: bool = True) -> Registration:
        self.verdict = self.compare() if compare else self.skip_compare()
        return self.register_candidate()

    def register_candidate(self) -> Registration:
        """Register the candidate by the verdict, without a refit unless there was one."""
        if getattr(self, "refit_result", None) is None:
            self.refit_result = self.keep_judged()
        self.registration = register.register(
            self.client, self.run, self.candidate, self.verdict, self.refit_result, self.timer
        )
        return self.registration

    def keep_judged(self) -> Refit:
        """Return the result of a refit that training.yaml switches off."""
        return Refit(
            decision="judged",
            message="refit: false in training.yaml",
            model_uri=self.candidate.model_uri,
            trained_until=self.run.as_of,
            **self.timer.stop(),
        )

    def refit(self) -> Refit:
        """Fit the candidate of the verdict once more."""
        self.refit_result = refit.refit(
            *(self.client, self.run, self.settings, self.snapshot, self.candidate, self.verdict, self.timer)
        )
        return self.refit_result

    def promote(self, *, compare: bool = True) -> model_versions.Version:
        """Make the candidate champion, as Deploy does when every server follows."""
        self.register(compare=compare)
        return self.promote_version()

    def promote_version(self) -> model_versions.Version:
        number = self.registration.model_version
        with promotion.lock(self.client, self.run.model, self.run.build_tag, "promoting") as lock:
            lock.confirm(lock.promote(number, self.verdict.champion, force=False))
        version = model_versions.by_number(self.client, self.run.model, number)
        assert version is not None
        return version

    def promote_version_of(self, result: Refit) -> model_versions.Version:
        """Register the model of a refit's result and make it champion."""
        self.refit_result = result
        self.register_candidate()
        return self.promote_version()

    def deploy(self, *, compare: bool = True) -> Deployment:
        self.register(compare=compare)
        return self.deploy_version()

    def deploy_version(self) -> Deployment:
        return deploy.deploy(
            self.client, self.run, self.settings, self.candidate, self.registration, self.verdict, self.timer
        )

    @staticmethod
    def _fit(run: Run, snapshot: Snapshot, run_id: str) -> None:
        os.environ["MLFLOW_RUN_ID"] = run_id
        try:
            fit.fit(run.model, snapshot.train.path.parent, {})
        finally:
            os.environ.pop("MLFLOW_RUN_ID", None)
