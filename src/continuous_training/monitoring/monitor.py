"""One check of a model: compare the window with the reference, decide, and ping Jenkins if a training is due."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from continuous_training.data import sources
from continuous_training.documents import write_atomically
from continuous_training.errors import UserError
from continuous_training.formatting import format_time, join_names
from continuous_training.jenkins import ping
from continuous_training.jenkins.ping import Ping, PingResult
from continuous_training.monitoring import (
    decision,
    drift,
    history,
    performance,
    predictions_log,
    quality,
    reference,
    warehouse_rows,
)
from continuous_training.monitoring.decision import Decision
from continuous_training.monitoring.evaluation_windows import evaluation_days, evaluation_windows
from continuous_training.monitoring.findings import Finding
from continuous_training.monitoring.report import DOCUMENT, EVIDENTLY_REPORT, MonitorReport
from continuous_training.monitoring.state import MonitorState
from continuous_training.registry import connection, model_versions
from continuous_training.settings import future_warning, load_settings, parse_as_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.monitoring.performance import MetricEstimate
    from continuous_training.monitoring.predictions_log import PredictionsLogReader
    from continuous_training.monitoring.reference import Reference
    from continuous_training.monitoring.window import Window
    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings

MESSAGE_LENGTH = 500  # characters: the message shares a tag with the columns' names


@dataclass
class ModelMonitor:
    """One check of a model's champion.

    `now` is the time of the servers, where the window of the predictions log ends; `as_of` is the end of the
    warehouse's data.
    """

    client: MlflowClient
    model: str
    settings: Settings
    source: Literal["log", "warehouse"]
    as_of: datetime
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    findings: list[Finding] = field(default_factory=list)

    def check(self, jenkins: str, as_of_parameter: str | None) -> MonitorReport:
        """Check the champion, ping Jenkins if a training is due, and write the report.

        Errors of single parts are findings, so that the report and the page have them; the caller turns them into an
        exit code.

        Args:
            jenkins: the controller's address, or `ping.NO_JENKINS`.
            as_of_parameter: AS_OF of the requested run.
        """
        if message := future_warning(self.as_of, self.now):
            self._add_finding("warning", message)
        champion = model_versions.by_alias(self.client, self.model, model_versions.CHAMPION)
        report = self._check_champion(champion)
        run_id = history.start_run(self.client, self.model, f"{self.now:%Y-%m-%d %H:%M}")
        evidence = history.run_url(self.client, run_id)
        outcome = None
        if champion and report.decision.verdict == "retrain":
            outcome = self._request_training(champion, report.decision, jenkins, as_of_parameter, evidence)
        report = report.model_copy(update={"findings": self.findings, "ping_result": outcome, "evidence": evidence})
        summary = history.CheckSummary(
            at=self.now,
            version=report.model_version,
            verdict=report.decision.verdict,
            ratio=max((column.ratio for column in report.drifts), default=None),
            metric=report.current.value if report.current else None,
            ping_sent=bool(outcome and outcome.jobs),
        )
        page = EVIDENTLY_REPORT if summary.ping_sent and EVIDENTLY_REPORT.exists() else None
        history.finish_run(self.client, run_id, summary, report.model_dump_json(indent=2), page)
        write_atomically(DOCUMENT, report.model_dump_json(indent=2) + "\n")
        return report

    def _add_finding(self, kind: Literal["error", "warning", "note"], message: str) -> None:
        self.findings.append(Finding(kind=kind, message=message))

    def _report_without_decision(self, message: str, version: Version | None = None) -> MonitorReport:
        """Return a report with the verdict 'not enough data'."""
        return MonitorReport(
            model=self.model,
            model_version=version.number if version else None,
            source=self.source,
            at=self.now,
            as_of=self.as_of,
            decision=Decision(verdict="not enough data", cause="", message=message),
        )

    def _check_champion(self, champion: Version | None) -> MonitorReport:
        """Read the reference and the window, and compare them as far as possible."""
        if champion is None:
            self._add_finding("note", f"{self.model} has no champion: the first promotion sets one")
            return self._report_without_decision("there is no champion")
        try:
            champion_reference = reference.load_reference(self.client, champion)
            if champion_reference is None:
                return self._report_without_reference(champion)
            if self.source == "warehouse":
                with sources.open_source(self.settings) as source:
                    window = warehouse_rows.read_window(source, self.settings, self.as_of)
                    return self._compare(champion, champion_reference, window, None)
            days = evaluation_days(self.settings) + self.settings.data.label_delay_days
            with predictions_log.open_log(self.model, self.now - timedelta(days=days)) as log:
                logged = log.read_window(self.settings, champion.number, champion_reference.profile, self.now)
                if logged is None:
                    message = "the predictions log has no rows of these days: check that the servers receive requests"
                    self._add_finding("note", message)
                    return self._report_without_decision("the predictions log is empty", champion)
                return self._compare(champion, champion_reference, logged, log)
        except UserError as error:
            self._add_finding("error", str(error))
            return self._report_without_decision("the check failed", champion)

    def _report_without_reference(self, champion: Version) -> MonitorReport:
        """Tell a reference that is lost from one that never existed."""
        if model_versions.run_tags(self.client, champion) is None:
            lost = f"MLflow run {champion.run_id} of version {champion.number} no longer exists, nor does its reference"
            self._add_finding("warning", f"{lost}: neither drift nor a drop is measured until the next promotion")
            return self._report_without_decision("the champion's reference is lost", champion)
        message = f"version {champion.number} has no reference: Compare stores one with each promoted version"
        self._add_finding("note", message)
        return self._report_without_decision("the champion has no reference", champion)

    def _compare(
        self, champion: Version, champion_reference: Reference, window: Window, log: PredictionsLogReader | None
    ) -> MonitorReport:
        """Compare a window with the reference, update the state and decide."""
        limits = self.settings.monitor
        self.findings += window.findings
        report = self._report_without_decision(
            f"the window has {window.rows:,} rows, {limits.min_rows:,} are needed", champion
        )
        report = report.model_copy(update={"since": window.since, "until": window.until, "rows": window.rows})
        if window.rows < limits.min_rows:
            return report
        null_shares = quality.count_nulls(window)
        self.findings += quality.check_quality(window, champion_reference.profile, self.settings, null_shares)
        sample = window.sample(limits.sample_rows)
        live_metric = self._measure_performance(champion, champion_reference, log)
        if log is None:
            try:
                predictions = warehouse_rows.predict(champion, sample, self.settings)
                monitored = champion_reference.profile.monitored_predictions(np.asarray(predictions.values))
                sample = pd.concat([sample, monitored.set_axis(sample.index)], axis=1)
            except UserError as error:
                self._add_finding("warning", str(error))
        result = drift.measure_drift(champion_reference, sample, self.settings, null_shares)
        drifts = result.drifts if result else []
        ratios = {column.name: column.ratio for column in drifts}
        baseline = champion_reference.profile.baseline
        drop = performance.measure_drop(baseline, live_metric, limits.false_alarms) if live_metric else None
        if drop:
            ratios[decision.LIVE_METRIC] = drop.ratio
        state = self._read_state(champion).update(ratios, limits)
        state.write(self.client, champion)
        drifted = state.drifted(limits)
        invalid = {finding.column for finding in self.findings if finding.kind == "warning" and finding.column}
        decided = decision.decide(
            drifts, baseline, live_metric, drop, drifted=drifted, invalid_columns=len(invalid), limits=limits
        )
        if result and decided.verdict != "none":
            try:
                result.write_evidently_report(EVIDENTLY_REPORT)
            except UserError as error:
                self._add_finding("error", str(error))
        return report.model_copy(
            update={
                "decision": decided,
                "drifts": [column.model_copy(update={"drifted": column.name in drifted}) for column in drifts],
                "baseline": baseline,
                "current": live_metric,
            }
        )

    def _measure_performance(
        self, champion: Version, champion_reference: Reference, log: PredictionsLogReader | None
    ) -> MetricEstimate | None:
        """Return the metric on the rows whose labels are known by now; add a finding if it cannot be computed."""
        data, windows = self.settings.data, evaluation_windows(self.settings, champion_reference.profile, self.as_of)
        if log and not log.has_keys(self.settings):
            message = f"labels cannot be joined: requests do not contain {', '.join(data.key)} beside the features"
            self._add_finding("note", message)
            return None
        if not windows:
            rows_needed = f"{self.settings.monitor.window_days:g} days after the rows that version {champion.number}"
            self._add_finding("note", f"the live metric needs the labels of {rows_needed} was compared on")
            return None
        targets = champion_reference.profile.targets
        if targets != data.targets and max(len(targets), len(data.targets)) > 1:
            predicted = join_names(targets) if targets else "one target"
            message = (
                f"version {champion.number} predicts {predicted}, and data.target is {join_names(data.targets)} now"
            )
            self._add_finding("note", f"the live metric cannot be computed: {message}")
            return None
        estimate = None
        try:
            if log is None:
                frames = warehouse_rows.read_labels(self.settings, windows)
            else:
                frames = log.join_labels(self.settings, windows, champion.number, self.as_of, self.now)
            rows = pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)
            if len(rows):
                if log is None:
                    predictions = warehouse_rows.predict(champion, rows, self.settings)
                else:
                    predictions = reference.logged_predictions(rows, champion_reference)
                by_window = np.split(np.arange(len(rows)), np.cumsum([len(frame) for frame in frames])[:-1])
                estimate = performance.estimate_metric(predictions, rows, by_window, self.settings)
        except UserError as error:
            self._add_finding("error", f"the live metric cannot be computed: {error}")
            return None
        if estimate is None:
            self._add_finding("note", f"{len(rows):,} rows have labels, too few for a confidence interval")
        return estimate

    def _request_training(
        self, champion: Version, decided: Decision, jenkins: str, as_of: str | None, evidence: str
    ) -> PingResult:
        """Ping Jenkins unless the version is in its cool-down; only a delivered ping starts a cool-down."""
        message = Ping(
            trigger="drift",
            reason=f"version {champion.number}: {decided.cause}",
            as_of=as_of,
            model=self.model,
            model_version=champion.number,
            evidence=evidence,
        )

        def in_cool_down(version: Version) -> str | None:
            until = MonitorState.of(version).cool_down_end(self.settings.monitor)
            if until is None or until <= self.now:
                return None
            return f"one was requested for version {version.number} already, the cool-down ends on {format_time(until)}"

        outcome = ping.trigger_training(self.client, champion, message, jenkins, in_cool_down)
        if outcome.error:
            self._add_finding("error", outcome.error)
        if outcome.jobs:
            text = connection.clip(decided.message, MESSAGE_LENGTH)
            sent = {"pinged_at": self.now, "message": text, "evidence": evidence}
            self._read_state(champion).model_copy(update=sent).write(self.client, champion)
        return outcome

    def _read_state(self, champion: Version) -> MonitorState:
        """Return the stored state, which another monitor may have changed since the version was read."""
        return MonitorState.of(model_versions.by_number(self.client, self.model, champion.number) or champion)


def create_monitor(
    client: MlflowClient, model: str, source: Literal["log", "warehouse"] | None, as_of: str
) -> ModelMonitor:
    """Return the monitor of a model with the settings in training.yaml and AS_OF as text, which may be empty."""
    settings = load_settings(model)
    return ModelMonitor(
        client, model, settings, source or settings.monitor.source, parse_as_of(as_of, settings.data.clock)
    )
