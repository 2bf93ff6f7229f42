"""Probation: a new champion that is surely worse than the version before it is rolled back by the monitor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from continuous_training import http_client
from continuous_training.monitoring.monitor import ModelMonitor
from continuous_training.monitoring.probation import Probation, ProbationState, describe_failures
from continuous_training.registry import connection, holds, model_versions
from continuous_training.serving.rollout.counters import Counters
from continuous_training.settings import Serving, load_settings
from continuous_training.stages import probation
from http_stub import http_stub
from logged_predictions import log_predictions, newest_events, true_probabilities
from pipeline import Pipeline
from ports import free_port
from toy import change

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.monitoring.findings import Finding

pytestmark = pytest.mark.file_seconds(15)

DATABASE = Path(".ct/mlflow.db")
AS_OF = datetime(2020, 3, 16)
AGE = timedelta(days=5)  # of the promotion: five days of rows, of which the labels of four are known


@pytest.fixture(scope="module")
def database(mlflow_workspace_patch: pytest.MonkeyPatch) -> bytes:
    """Promote version 1, and then version 2, which predicts the same; return MLflow's database."""
    Pipeline(mlflow_workspace_patch).promote()
    change("metric: roc_auc", "metric: roc_auc\n  non_inferior: 0.05")
    Pipeline(mlflow_workspace_patch, FORCE="true").promote()
    return DATABASE.read_bytes()


@pytest.fixture
def client(database: bytes, mlflow_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Return the client of a registry whose champion, version 2, was promoted five days ago."""
    (mlflow_workspace / DATABASE).write_bytes(database)
    monkeypatch.setenv("CT_PREDICTIONS", str(tmp_path / "predictions"))
    monkeypatch.setattr(http_client, "RETRIES", http_client.RETRIES.new(backoff_factor=0))
    client = connection.open_client()
    promote_at(client, datetime.now(UTC) - AGE)
    return client


def promote_at(client: MlflowClient, moment: datetime) -> None:
    client.set_model_version_tag("toy", "2", model_versions.PROMOTED_AT, moment.isoformat())


def check(client: MlflowClient, source: Any = "log") -> list[Finding]:
    return probation.check(ModelMonitor(client, "toy", load_settings("toy"), source, AS_OF))


def champion(client: MlflowClient) -> str:
    return str(client.get_registered_model("toy").aliases["champion"])


def log_wrong_predictions(share: float = 1.0, **options: Any) -> None:
    """Log the champion's predictions since its promotion, of which a share is the wrong way round."""
    frame = newest_events(5 * 40)
    probabilities = true_probabilities(frame)
    wrong = np.arange(len(frame)) < share * len(frame)
    log_predictions(
        frame, probabilities=np.where(wrong[:, None], probabilities[:, ::-1], probabilities), version="2", **options
    )


class TestTheMonitor:
    def test_a_champion_that_is_surely_worse_is_rolled_back_with_a_hold(self, client: MlflowClient) -> None:
        log_wrong_predictions()
        rollback, *_ = check(client)
        assert rollback.kind == "warning"
        assert rollback.message.startswith(
            "version 2 of toy was rolled back, and version 1 is champion again: on probation, its roc_auc improves"
        )
        assert (
            "over that of version 1 on 160 rows since its promotion, with 99.64% confidence by −0." in rollback.message
        )
        assert rollback.message.endswith("scripts/ct release ends this")
        assert champion(client) == "1"
        hold = holds.find(client, "toy")
        assert hold
        assert hold.by == "the monitor"
        assert hold.reason.startswith("version 2 was rolled back: on probation, its roc_auc improves by −0.")
        version = model_versions.by_number(client, "toy", "2")
        assert version
        assert version.rollback_reason

    def test_one_that_is_not_stays_and_the_report_says_until_when_it_is_on_probation(
        self, client: MlflowClient
    ) -> None:
        log_wrong_predictions(0)
        (note,) = check(client)
        end = datetime.now(UTC) - AGE + timedelta(days=7 + 1)
        assert note.kind == "note"
        assert note.message.startswith(f"version 2 is on probation until {end.day} {end:%B %Y}")
        assert "its roc_auc improves by " in note.message
        assert (champion(client), holds.find(client, "toy")) == ("2", None)

    def test_one_that_may_be_so_much_worse_stays(self, client: MlflowClient) -> None:
        change("metric: roc_auc", "metric: roc_auc\n  non_inferior: 0.9")
        log_wrong_predictions()
        (note,) = check(client)
        assert note.kind == "note"
        assert champion(client) == "2"

    def test_without_a_log_both_predict_the_rows_of_the_warehouse(self, client: MlflowClient) -> None:
        (note,) = check(client, "warehouse")
        assert "its roc_auc improves by 0 over that of version 1 on 160 rows since its promotion" in note.message

    def test_labels_are_looked_at_once_a_day(self, client: MlflowClient) -> None:
        log_wrong_predictions(0)
        check(client)
        log_wrong_predictions(age=timedelta(0))
        (note,) = check(client)
        assert note.message.endswith(": the labels of today were compared already")
        assert champion(client) == "2"
        version = model_versions.by_number(client, "toy", "2")
        assert version
        ProbationState(looked_on=datetime.now(UTC).date() - timedelta(days=1)).write(client, version)
        assert check(client)[0].kind == "warning"
        assert champion(client) == "1"

    def test_few_labels_decide_nothing_and_are_looked_at_again(self, client: MlflowClient) -> None:
        frame = newest_events(5 * 40).head(50)
        log_predictions(frame, probabilities=true_probabilities(frame)[:, ::-1].copy(), version="2")
        (note,) = check(client)
        assert ": 50 rows with labels are too few, with " in note.message
        assert " of 40 cases" in note.message

    @pytest.mark.parametrize("age", [0, 0.9])
    def test_before_the_first_label_it_says_so(self, client: MlflowClient, age: float) -> None:
        promote_at(client, datetime.now(UTC) - timedelta(days=age))
        log_wrong_predictions()
        (note,) = check(client)
        assert note.message.endswith("no label of a row since its promotion is known yet")

    def test_what_cannot_be_read_is_an_error_and_the_monitor_goes_on(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SERVING_URLS", f"http://127.0.0.1:{free_port()}")
        (error,) = check(client)
        assert error.kind == "error"
        assert error.message.startswith("the probation of the champion cannot be checked: cannot read http://127.0.0.1")

    def test_the_channel_gets_a_notice(self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        notices: list[str] = []

        def respond(request: Any) -> tuple[int, str]:
            notices.append(request.body.decode())
            return 200, "ok"

        log_wrong_predictions()
        with http_stub(respond) as url:
            monkeypatch.setenv("SLACK_WEBHOOK_URL", url)
            check(client)
        (notice,) = notices
        assert "Rolled back: version 2 of toy was rolled back, and version 1 is champion again" in notice


class TestWhichChampionIsOnProbation:
    def find(self, client: MlflowClient) -> Probation | None:
        return Probation.find(client, "toy", load_settings("toy"), "log", AS_OF, datetime.now(UTC))

    def test_it_ends_when_the_labels_of_the_last_day_are_known(self, client: MlflowClient) -> None:
        for days, is_on_probation in ((7.99, True), (8.01, False)):
            promote_at(client, datetime.now(UTC) - timedelta(days=days))
            assert (self.find(client) is not None) is is_on_probation

    def test_none_is_where_the_days_are_0(self, client: MlflowClient) -> None:
        change("watch_seconds: 0", "watch_seconds: 0, probation_days: 0")
        assert self.find(client) is None

    @pytest.mark.parametrize("moment", ["yesterday", "2020-03-01T00:00:00", "", "9999-12-31T23:59:59+00:00"])
    def test_none_is_if_its_promotion_is_not_known(self, client: MlflowClient, moment: str) -> None:
        client.set_model_version_tag("toy", "2", model_versions.PROMOTED_AT, moment)
        assert self.find(client) is None

    def test_none_is_if_the_version_before_it_was_rolled_back_or_is_another(self, client: MlflowClient) -> None:
        client.set_model_version_tag("toy", "1", model_versions.ROLLED_BACK_BECAUSE, "nonsense")
        assert self.find(client) is None
        client.delete_model_version_tag("toy", "1", model_versions.ROLLED_BACK_BECAUSE)
        assert self.find(client)
        client.set_model_version_tag("toy", "2", model_versions.REPLACED, "7")
        assert self.find(client) is None

    def test_a_promotion_sets_its_time(self, database: bytes, client: MlflowClient) -> None:
        assert database
        version = model_versions.by_number(client, "toy", "1")
        assert version
        assert version.promoted_at
        assert abs(datetime.now(UTC) - version.promoted_at) < timedelta(hours=1)


class TestFailedRequests:
    SERVING = Serving(max_error_share=0.01, min_requests=100)

    def test_more_than_may_fail_and_than_of_the_version_before_is_worse(self) -> None:
        message = describe_failures(Counters(successes=900, failures=100), Counters(successes=1000), self.SERVING)
        assert message == "10% of 1,000 requests failed, of the version before it 0%; 1% may fail"

    def test_as_many_as_of_the_version_before_are_not(self) -> None:
        both = Counters(successes=900, failures=100)
        assert describe_failures(both, both, self.SERVING) is None

    def test_a_few_more_may_be_chance(self) -> None:
        assert describe_failures(Counters(successes=985, failures=15), Counters(), self.SERVING) is None
        message = describe_failures(Counters(successes=975, failures=25), Counters(), self.SERVING)
        assert message == "2.5% of 1,000 requests failed; 1% may fail"

    def test_too_few_requests_decide_nothing(self) -> None:
        for requests, is_worse in ((99, False), (100, True)):
            message = describe_failures(Counters(failures=requests), Counters(), self.SERVING)
            assert (message is not None) is is_worse

    def test_the_counters_of_all_servers_decide(self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = [
            f'ct_answers_total{{version="{version}",role="champion",outcome="{outcome}"}} {count}'
            for version, outcome, count in (("1", "ok", 100), ("2", "ok", 60), ("2", "error", 40))
        ]
        text = "\n".join(["# TYPE ct_answers counter", *lines, ""])
        with http_stub(lambda _: (200, text)) as first, http_stub(lambda _: (200, text)) as second:
            monkeypatch.setenv("SERVING_URLS", f"{first},{second}")
            rollback, *_ = check(client)
        assert "on probation, 40% of 200 requests failed, of the version before it 0%; 1% may fail" in rollback.message
        assert champion(client) == "1"
