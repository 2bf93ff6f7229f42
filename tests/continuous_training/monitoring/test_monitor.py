"""The monitor with a real log and a real warehouse: drift, the live metric, data quality and the ping."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from continuous_training import http_client
from continuous_training.monitoring import history, monitor, page, profile, reference
from continuous_training.monitoring.monitor import ModelMonitor
from continuous_training.monitoring.report import DOCUMENT, EVIDENTLY_REPORT, MonitorReport
from continuous_training.monitoring.state import MonitorState
from continuous_training.registry import model_versions
from continuous_training.serving.predictions_log import journal
from continuous_training.serving.predictions_log.writer import PredictionsLog
from continuous_training.serving.rollout.client import OWN_REQUEST_PREFIX
from continuous_training.settings import STATE, Column, load_settings
from jenkins_stub import TOKEN, jenkins
from logged_predictions import log_predictions, make_batch, newest_events, true_probabilities
from pipeline import Pipeline
from ports import free_port
from toy import change, events, import_again, store

pytestmark = pytest.mark.file_seconds(70)

AS_OF = datetime(2020, 3, 16)  # two weeks of labels after the fresh rows of version 1 are known


@pytest.fixture(scope="module")
def champion(mlflow_workspace_patch: pytest.MonkeyPatch) -> Pipeline:
    """Promote version 1 of the toy model, trained on 45 days of events without drift."""
    change("serving: {watch_seconds: 0}", "serving: {watch_seconds: 0}\nmonitor: {min_rows: 200, columns_share: 0.6}")
    pipeline = Pipeline(mlflow_workspace_patch)
    pipeline.promote()
    return pipeline


@pytest.fixture(autouse=True)
def _reset(champion: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT_PREDICTIONS", str(tmp_path / "predictions"))
    monkeypatch.setenv("WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setattr(http_client, "RETRIES", http_client.RETRIES.new(backoff_factor=0))
    if MonitorState.tag in version_1(champion).tags:
        champion.client.delete_model_version_tag("toy", "1", MonitorState.tag)


def version_1(champion: Pipeline) -> model_versions.Version:
    version = model_versions.by_number(champion.client, "toy", "1")
    assert version
    return version


def check(
    champion: Pipeline, source: Any = "log", url: str = "none", as_of: datetime = AS_OF, **limits: Any
) -> MonitorReport:
    """Check the champion with limits that replace those in training.yaml."""
    settings = load_settings("toy")
    settings = settings.model_copy(update={"monitor": settings.monitor.model_copy(update=limits)})
    return ModelMonitor(champion.client, "toy", settings, source, as_of).check(url, "2020-03-20")


def messages(report: MonitorReport, kind: str) -> str:
    return "; ".join(finding.message for finding in report.findings if finding.kind == kind)


@contextmanager
def warehouse_of(frame: Any) -> Iterator[None]:
    """Replace the warehouse's events for the duration of a block."""
    store(frame)
    try:
        yield
    finally:
        store(events())


class TestDecision:
    def test_requests_like_the_training_data_are_no_drift(self, champion: Pipeline) -> None:
        log_predictions(newest_events())
        report = check(champion)
        assert report.decision.verdict == "none", report.summary
        assert report.decision.message.startswith("no drift in 3 columns; the live roc_auc is 0.8")
        assert report.ping_result is None
        assert (report.rows, report.findings) == (1200, [])

    def test_drift_of_a_column_and_of_the_predictions_requires_a_training(self, champion: Pipeline) -> None:
        log_predictions(newest_events(shift=2))
        report = check(champion)
        assert report.decision.verdict == "retrain"
        assert report.decision.cause == "the predictions and x drifted"
        assert report.decision.message.startswith("x drifted (1 of 3 columns), and so did the predictions; ")
        assert {column.name for column in report.drifts if column.drifted} == {"x", "the predictions"}

    def test_drift_of_one_column_alone_is_a_warning(self, champion: Pipeline) -> None:
        frame = newest_events()
        frame["y"] += 2
        log_predictions(frame)
        report = check(champion)
        assert (report.decision.verdict, report.decision.cause) == ("warn", "y drifted")

    def test_wrong_predictions_require_a_training(self, champion: Pipeline) -> None:
        frame = newest_events()
        log_predictions(frame, probabilities=true_probabilities(frame)[:, ::-1].copy())
        report = check(champion)
        assert report.decision.verdict == "retrain"
        assert report.decision.cause == "the live roc_auc dropped"
        assert "the live roc_auc dropped from 0.8102 to 0.1" in report.decision.message
        assert "over 14 days (95% interval 0.1" in report.decision.message

    def test_the_last_prediction_for_a_row_counts(self, champion: Pipeline) -> None:
        frame = newest_events()
        log_predictions(frame, probabilities=true_probabilities(frame)[:, ::-1].copy(), age=timedelta(hours=2))
        log_predictions(frame, age=timedelta(hours=1))
        report = check(champion)
        assert report.current
        assert (report.current.rows, report.current.value > 0.75) == (560, True)

    @pytest.mark.parametrize("source", ["log", "warehouse"])
    def test_the_fresh_rows_are_not_used_for_the_live_metric(self, champion: Pipeline, source: str) -> None:
        log_predictions(newest_events())
        report = check(champion, source, as_of=datetime(2020, 3, 7))
        assert (report.current, report.decision.message) == (None, "no drift in 3 columns")
        assert "needs the labels of 7 days after the rows that version 1 was compared on" in messages(report, "note")

    def test_after_one_week_the_live_metric_is_of_that_week(self, champion: Pipeline) -> None:
        report = check(champion, "warehouse", as_of=datetime(2020, 3, 8))
        assert report.current
        assert (report.current.rows, len(report.current.windows)) == (280, 1)
        assert "over 7 days, it was" in report.decision.message

    def test_without_keys_a_note_reports_that_labels_cannot_be_joined(self, champion: Pipeline) -> None:
        log_predictions(newest_events(), keys=False)
        report = check(champion)
        assert "labels cannot be joined: requests do not contain id beside the features" in messages(report, "note")
        assert report.decision.verdict == "none"

    def test_requests_of_a_deployment_are_excluded(self, champion: Pipeline) -> None:
        log_predictions(newest_events(shift=5), request=f"{OWN_REQUEST_PREFIX}1")
        assert check(champion).decision.verdict == "not enough data"

    def test_too_few_rows_are_not_reported_as_no_drift(self, champion: Pipeline) -> None:
        log_predictions(newest_events(count=120, shift=5))
        report = check(champion)
        assert report.decision.verdict == "not enough data"
        assert report.decision.message == "the window has 120 rows, 200 are needed"

    def test_the_report_and_the_history_are_written(self, champion: Pipeline) -> None:
        log_predictions(newest_events())
        page.remove_outputs()
        report = check(champion)
        assert MonitorReport.model_validate_json(DOCUMENT.read_bytes()) == report
        assert not EVIDENTLY_REPORT.exists()  # written only if something drifted
        newest = history.read_history(champion.client, "toy", 1)[0]
        assert (newest.at, newest.version, newest.verdict) == (report.at, "1", "none")


@pytest.mark.parametrize("source", ["log", "warehouse"])
def test_the_live_metric_can_be_a_function_of_all_columns(
    champion: Pipeline, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("src/toy/metrics.py").write_text(
        "def share(labels, predictions, rows):\n    return (rows['id'] > 0).mean() / 2\n"
    )
    import_again(monkeypatch)
    log_predictions(newest_events())
    settings = load_settings("toy")
    compare = settings.compare.model_copy(update={"metric": "share", "functions": {"share": "toy.metrics:share"}})
    settings = settings.model_copy(update={"compare": compare})
    report = ModelMonitor(champion.client, "toy", settings, source, AS_OF).check("none", "2020-03-20")
    assert report.current, report.summary
    assert (report.current.metric, report.current.value) == ("share", 0.5)


class TestWarehouse:
    def test_the_champion_predicts_the_newest_rows(self, champion: Pipeline) -> None:
        report = check(champion, "warehouse")
        assert report.decision.verdict == "none", report.summary
        assert (report.rows, [column.name for column in report.drifts][-1]) == (280, "the predictions")
        assert report.current
        assert report.current.value > 0.75

    def test_drift_in_the_warehouse_requires_a_training(self, champion: Pipeline) -> None:
        frame = events()
        new = frame["seen"] >= "2020-03-01"
        frame.loc[new, "x"] += 2
        frame.loc[new, "late"] = ~frame.loc[new, "late"]
        with warehouse_of(frame):
            report = check(champion, "warehouse")
        assert report.decision.verdict == "retrain"
        assert report.decision.cause == "the predictions and x drifted; the live roc_auc dropped"

    def test_a_column_of_another_type_and_the_failed_prediction_are_warnings(self, champion: Pipeline) -> None:
        frame = events()
        frame["y"] = "far"
        with warehouse_of(frame):
            report = check(champion, "warehouse")
        assert "column 'y' has type string now, training.yaml declares number" in messages(report, "warning")
        assert "version 1 cannot predict the newest rows" in messages(report, "warning")
        assert report.decision.verdict == "warn"

    def test_a_missing_warehouse_is_an_error(self, champion: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CT_WAREHOUSE_URL", "duckdb://.ct/nowhere.duckdb")
        report = check(champion, "warehouse")
        assert (report.decision.verdict, "does not exist" in report.errors[0]) == ("not enough data", True)

    def test_a_day_in_the_future_is_a_warning(self, champion: Pipeline) -> None:
        model_monitor = monitor.create_monitor(champion.client, "toy", "warehouse", "2199-01-01")
        report = model_monitor.check("none", "2199-01-01")
        assert "AS_OF=2199-01-01 00:00 lies in the future" in messages(report, "warning")
        assert report.decision.verdict == "not enough data"


class TestPing:
    def test_a_second_check_sends_no_second_ping(self, champion: Pipeline) -> None:
        log_predictions(newest_events(shift=2))
        with jenkins() as stub:
            reports = [check(champion, url=stub.url) for _ in range(2)]
        assert len(stub.pings) == 1
        assert stub.pings[0]["reason"] == "version 1: the predictions and x drifted"
        assert stub.pings[0]["as_of"] == "2020-03-20"
        assert stub.pings[0]["evidence"] == reports[0].evidence
        assert [report.decision.verdict for report in reports] == ["retrain", "retrain"]
        assert reports[1].ping_result
        assert "one was requested for version 1 already, the cool-down ends on" in str(
            reports[1].ping_result.skip_reason
        )

    def test_after_the_cool_down_a_ping_with_the_same_reason_is_sent(self, champion: Pipeline) -> None:
        log_predictions(newest_events(shift=2))
        with jenkins() as stub:
            check(champion, url=stub.url, cool_down_hours=0)
            log_predictions(newest_events(shift=2.2, first_id=5000))
            check(champion, url=stub.url, cool_down_hours=0)
        assert len({ping["reason"] for ping in stub.pings}) == 1
        assert len(stub.pings) == 2

    def test_a_ping_that_fails_is_an_error_and_is_sent_by_the_next_check(self, champion: Pipeline) -> None:
        log_predictions(newest_events(shift=2))
        with jenkins(busy=4) as stub:
            report = check(champion, url=stub.url)
            assert "cannot be reached" in report.errors[0]
            assert MonitorState.of(version_1(champion)).pinged_at is None
            check(champion, url=stub.url)
        assert len(stub.pings) == 1

    def test_without_a_jenkins_the_ping_is_printed_and_not_stored(self, champion: Pipeline) -> None:
        log_predictions(newest_events(shift=2))
        report = check(champion)
        assert report.ping_result
        assert "no Jenkins is configured" in report.summary
        assert MonitorState.of(version_1(champion)).pinged_at is None

    def test_a_warning_sends_no_ping(self, champion: Pipeline) -> None:
        frame = newest_events()
        frame["y"] += 2
        log_predictions(frame)
        with jenkins() as stub:
            check(champion, url=stub.url)
        assert stub.requests == 0

    def test_the_evidence_is_stored_at_the_address_in_the_ping(self, champion: Pipeline) -> None:
        log_predictions(newest_events(shift=2))
        with jenkins() as stub:
            check(champion, url=stub.url)
        run = stub.pings[0]["evidence"].removeprefix("runs:/")
        artifacts = {artifact.path for artifact in champion.client.list_artifacts(run)}
        assert artifacts == {history.ARTIFACT, EVIDENTLY_REPORT.name}
        assert "<script" in EVIDENTLY_REPORT.read_text()


class TestInvalidInput:
    def test_without_a_champion_there_is_not_enough_data(self, champion: Pipeline) -> None:
        champion.client.delete_registered_model_alias("toy", model_versions.CHAMPION)
        try:
            report = check(champion)
        finally:
            champion.client.set_registered_model_alias("toy", model_versions.CHAMPION, "1")
        assert (report.decision.verdict, report.model_version) == ("not enough data", None)
        assert "toy has no champion" in messages(report, "note")

    def test_without_a_reference_there_is_not_enough_data(
        self, champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reference, "FOLDER", "nowhere")
        report = check(champion)
        assert report.decision.verdict == "not enough data"
        assert "version 1 has no reference" in messages(report, "note")

    def test_an_empty_log_is_not_enough_data(self, champion: Pipeline) -> None:
        report = check(champion)
        assert (report.decision.verdict, report.decision.message) == ("not enough data", "the predictions log is empty")

    def test_a_disabled_log_is_an_error(self, champion: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CT_PREDICTIONS", "none")
        assert "use --source warehouse" in check(champion).errors[0]

    def test_an_unreadable_log_is_an_error(self, champion: Pipeline, tmp_path: Path) -> None:
        log_predictions(newest_events())
        [complete] = (tmp_path / "predictions").rglob("*.parquet")
        complete.with_name("incomplete.parquet").write_bytes(complete.read_bytes()[:-100])
        report = check(champion)
        assert report.decision.verdict == "not enough data"
        assert "the predictions log cannot be read" in report.errors[0]
        assert "incomplete.parquet" in report.errors[0]

    def test_a_missing_column_is_a_warning(self, champion: Pipeline) -> None:
        log_predictions(newest_events().drop(columns="y"))
        report = check(champion)
        assert messages(report, "warning") == "column 'y' is missing in every row"
        assert report.decision.verdict == "warn"

    def test_a_redacted_column_is_not_missing(self, champion: Pipeline) -> None:
        log_predictions(newest_events().drop(columns="y"))
        settings = load_settings("toy")
        settings = settings.model_copy(update={"serving": settings.serving.model_copy(update={"redacted": ("y",)})})
        report = ModelMonitor(champion.client, "toy", settings, "log", AS_OF).check("none", None)
        assert messages(report, "warning") == ""
        assert "y is not monitored: serving.redacted excludes it from the log" in messages(report, "note")

    def test_a_column_that_is_new_since_the_champion_is_not_missing(self, champion: Pipeline) -> None:
        log_predictions(newest_events())
        settings = load_settings("toy")
        columns = settings.data.columns | {"z": Column(type="number")}
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"columns": columns})})
        report = ModelMonitor(champion.client, "toy", settings, "log", AS_OF).check("none", None)
        assert (report.decision.verdict, messages(report, "warning")) == ("none", "")

    def test_an_infinite_number_is_invalid(self, champion: Pipeline) -> None:
        frame = newest_events()
        frame.loc[:299, "y"] = np.inf
        log_predictions(frame)
        assert "column 'y' is not a valid number in 25% of the rows" in messages(check(champion), "warning")

    def test_a_column_without_values_is_a_warning(self, champion: Pipeline) -> None:
        frame = newest_events()
        frame["y"] = None
        log_predictions(frame)
        report = check(champion)
        assert messages(report, "warning") == "column 'y' is null in every row"
        assert "y" not in {column.name for column in report.drifts}

    def test_values_of_another_type_are_a_warning(self, champion: Pipeline) -> None:
        frame = newest_events()
        frame["y"] = frame["y"].astype(object)
        frame.loc[:599, "y"] = "far"
        log_predictions(frame)
        assert "column 'y' is not a valid number in 50% of the rows" in messages(check(champion), "warning")

    def test_new_categories_are_a_warning_and_drift(self, champion: Pipeline) -> None:
        frame = newest_events()
        frame.loc[:299, "shade"] = "mauve"
        log_predictions(frame)
        report = check(champion)
        assert "column 'shade' has a category that is not in the training data in 25% of the rows" in messages(
            report, "warning"
        )
        assert "shade" in {column.name for column in report.drifts if column.drifted}

    def test_values_out_of_range_and_too_many_nulls_are_warnings(self, champion: Pipeline) -> None:
        frame = newest_events()
        frame.loc[:299, "x"] = 11
        frame.loc[:599, "y"] = np.nan
        log_predictions(frame)
        warnings = messages(check(champion), "warning")
        assert "column 'x' is not between -10.0 and 10.0 in 25% of the rows" in warnings
        assert "column 'y' is null in 5" in warnings

    def test_predictions_of_other_versions_and_roles_are_excluded_and_counted(self, champion: Pipeline) -> None:
        log_predictions(newest_events())
        log_predictions(newest_events(count=300, shift=5), version="2", role="shadow")
        log_predictions(newest_events(count=200, shift=5), version="7")
        report = check(champion)
        assert report.rows == 1200
        assert "rows excluded from the window: 300 of version 2 as shadow, 200 of version 7 as champion" in messages(
            report, "note"
        )

    def test_predictions_in_the_future_are_excluded_with_a_warning(self, champion: Pipeline) -> None:
        log_predictions(newest_events())
        log_predictions(newest_events(count=300, shift=5, first_id=5000), age=timedelta(days=-2))
        report = check(champion)
        assert report.rows == 1200
        assert "300 rows with a time in the future" in messages(report, "warning")

    def test_predictions_before_the_window_are_excluded(self, champion: Pipeline) -> None:
        log_predictions(newest_events())
        log_predictions(newest_events(shift=5, first_id=5000), age=timedelta(days=7, hours=1))
        assert check(champion).rows == 1200

    def test_an_unreadable_state_is_ignored(self, champion: Pipeline) -> None:
        champion.client.set_model_version_tag("toy", "1", MonitorState.tag, "{")
        log_predictions(newest_events(shift=2))
        assert check(champion).decision.verdict == "retrain"


def test_a_log_in_a_bucket_is_read(champion: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    server.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server._port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="predictions")
        monkeypatch.setenv("CT_PREDICTIONS", "s3://predictions/all")
        log_predictions(newest_events())
        log_predictions(newest_events(first_id=5000), age=timedelta(days=30))
        assert check(champion).rows == 1200
        monkeypatch.setenv("CT_PREDICTIONS", "s3://nowhere/all")
        assert "the predictions log at s3://nowhere/all cannot be read" in check(champion).errors[0]
    finally:
        server.stop()


def test_rows_in_a_journal_are_counted_once(champion: Pipeline, tmp_path: Path) -> None:
    log_predictions(newest_events())
    [stored] = (tmp_path / "predictions").rglob("*.parquet")
    folder = STATE / "serving" / "journal" / "toy"
    try:
        log = PredictionsLog(str(tmp_path / "other"), "toy", state=folder.parent, count=lambda *_: None)
        log.append(make_batch(newest_events(count=300, first_id=5000)))
        log._write_queue()  # as its thread does: the journal stays open
        assert check(champion).rows == 1500
        [path] = folder.glob("*.journal")
        copy = tmp_path / "predictions" / "toy" / journal._parquet_name(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(stored, copy)  # a move that was interrupted before the journal was removed
        assert check(champion).rows == 1500
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_reference_sample_is_deterministic(champion: Pipeline) -> None:
    path = champion.snapshot.train.path
    samples = [profile.sample_rows(path, champion.settings).to_pandas() for _ in range(2)]
    assert samples[0].equals(samples[1])
    stored = reference.load_reference(champion.client, version_1(champion))
    assert stored
    assert stored.sample.equals(samples[0])
    assert list(stored.sample.columns) == ["shade", "x", "y"]
    assert stored.profile.columns["shade"].values == pytest.approx(
        {"red": 1 / 3, "green": 1 / 3, "blue": 1 / 3}, abs=0.05
    )
    assert stored.profile.columns["y"].null_share == pytest.approx(0.1, abs=0.05)
    assert len(stored.profile.columns["x"].distances) == 6
    assert stored.profile.baseline is not None
    assert len(stored.profile.baseline.windows) == 2  # weeks of the fresh rows
    assert min(stored.profile.baseline.windows) <= stored.profile.baseline.value <= max(stored.profile.baseline.windows)
    assert len(stored.predictions) == 560  # of the fresh rows


def test_the_window_of_the_log_ends_at_the_servers_time(champion: Pipeline) -> None:
    log_predictions(newest_events())
    settings = load_settings("toy")
    later = datetime.now(UTC) + timedelta(days=8)
    report = ModelMonitor(champion.client, "toy", settings, "log", AS_OF, later).check("none", None)
    assert report.decision.verdict == "not enough data"
