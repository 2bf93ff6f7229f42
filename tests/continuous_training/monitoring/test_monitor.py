"""The monitor: what it finds in a real log and a real warehouse, what follows, and what it never passes over."""

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

import asked
from continuous_training import http_client
from continuous_training.monitoring import examination, history, page, reference, state
from continuous_training.monitoring.examination import Examination, Examiner
from continuous_training.registry import model_versions
from continuous_training.serving.predictions_log import journal
from continuous_training.serving.predictions_log.writer import PredictionsLog
from continuous_training.serving.rollout.client import OWN_REQUEST_PREFIX
from continuous_training.settings import STATE, Column, load_settings
from jenkins_stub import TOKEN, jenkins
from pipeline import Pipeline
from server import free_port
from toy import change, events, store

AS_OF = datetime(2020, 3, 16)  # by when two weeks of labels are known since version 1 was judged


@pytest.fixture(scope="module")
def champion(tracked_module: pytest.MonkeyPatch) -> Pipeline:
    """Version 1 of the toy model, which has learnt 45 days of calm events."""
    change("serving: {watch_seconds: 0}", "serving: {watch_seconds: 0}\nmonitor: {min_rows: 200, columns_share: 0.6}")
    made = Pipeline(tracked_module)
    made.promote()
    return made


@pytest.fixture(autouse=True)
def _begins_anew(champion: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT_PREDICTIONS", str(tmp_path / "predictions"))
    monkeypatch.setenv("WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setattr(http_client, "RETRIES", http_client.RETRIES.new(backoff_factor=0))
    if state.TAG in the(champion).tags:
        champion.client.delete_model_version_tag("toy", "1", state.TAG)


def the(champion: Pipeline) -> model_versions.Version:
    version = model_versions.by_number(champion.client, "toy", "1")
    assert version
    return version


def examine(
    champion: Pipeline, source: Any = "log", url: str = "none", as_of: datetime = AS_OF, **limits: Any
) -> Examination:
    """Examine the champion, with other limits than those of training.yaml if they are given."""
    given = load_settings("toy")
    given = given.model_copy(update={"monitor": given.monitor.model_copy(update=limits)})
    return Examiner(champion.client, "toy", given, source, as_of).examine(url, "2020-03-20")


def message(found: Examination, kind: str) -> str:
    return "; ".join(one.message for one in found.findings if one.kind == kind)


@contextmanager
def warehouse_of(frame: Any) -> Iterator[None]:
    """Let the warehouse hold other events for a while."""
    store(frame)
    try:
        yield
    finally:
        store(events())


class TestWhatFollows:
    def test_a_champion_that_is_asked_what_it_learnt_is_left_alone(self, champion: Pipeline) -> None:
        asked.log(asked.rows())
        found = examine(champion)
        assert found.decision.verdict == "none", found.summary
        assert found.decision.message.startswith("no drift in 3 columns; the live roc_auc is 0.8")
        assert found.asking is None
        assert (found.rows, found.findings) == (1200, [])

    def test_it_needs_a_training_when_what_it_is_asked_and_what_it_says_have_moved(self, champion: Pipeline) -> None:
        asked.log(asked.rows(shift=2))
        found = examine(champion)
        assert found.decision.verdict == "retrain"
        assert found.decision.cause == "the predictions and x moved"
        assert found.decision.message.startswith("x moved (1 of 3 columns), and so did the predictions; ")
        assert {one.name for one in found.drifts if one.moved} == {"x", "the predictions"}

    def test_a_column_that_moves_alone_is_a_warning(self, champion: Pipeline) -> None:
        frame = asked.rows()
        frame["y"] += 2
        asked.log(frame)
        found = examine(champion)
        assert (found.decision.verdict, found.decision.cause) == ("warn", "y moved")

    def test_answers_that_turn_out_wrong_call_for_a_training(self, champion: Pipeline) -> None:
        frame = asked.rows()
        asked.log(frame, answers=asked.certain(frame)[:, ::-1].copy())
        found = examine(champion)
        assert found.decision.verdict == "retrain"
        assert found.decision.cause == "the live roc_auc fell"
        assert "the live roc_auc fell from 0.8102 to 0.1" in found.decision.message
        assert "over 14 days (95% interval 0.1" in found.decision.message

    def test_what_was_answered_about_a_row_last_is_what_counts(self, champion: Pipeline) -> None:
        frame = asked.rows()
        asked.log(frame, answers=asked.certain(frame)[:, ::-1].copy(), ago=timedelta(hours=2))
        asked.log(frame, ago=timedelta(hours=1))
        found = examine(champion)
        assert found.now
        assert (found.now.rows, found.now.value > 0.75) == (560, True)

    @pytest.mark.parametrize("source", ["log", "warehouse"])
    def test_rows_that_the_champion_was_judged_by_do_not_tell_what_it_is_worth_now(
        self, champion: Pipeline, source: str
    ) -> None:
        asked.log(asked.rows())
        found = examine(champion, source, as_of=datetime(2020, 3, 7))
        assert (found.now, found.decision.message) == (None, "no drift in 3 columns")
        assert "before the labels are known of 7 days after those that version 1 was judged by" in message(
            found, "note"
        )

    def test_after_one_week_that_week_is_what_is_known(self, champion: Pipeline) -> None:
        found = examine(champion, "warehouse", as_of=datetime(2020, 3, 8))
        assert found.now
        assert (found.now.rows, len(found.now.windows)) == (280, 1)
        assert "over 7 days and was" in found.decision.message

    def test_without_keys_it_is_said_that_no_labels_can_be_joined(self, champion: Pipeline) -> None:
        asked.log(asked.rows(), keys=False)
        found = examine(champion)
        assert "no labels can be joined: clients do not send id beside the features" in message(found, "note")
        assert found.decision.verdict == "none"

    def test_what_a_deployment_asks_by_itself_is_left_out(self, champion: Pipeline) -> None:
        asked.log(asked.rows(shift=5), request=f"{OWN_REQUEST_PREFIX}1")
        assert examine(champion).decision.verdict == "not enough data"

    def test_fewer_rows_than_are_needed_are_never_called_no_drift(self, champion: Pipeline) -> None:
        asked.log(asked.rows(count=120, shift=5))
        found = examine(champion)
        assert found.decision.verdict == "not enough data"
        assert found.decision.message == "120 rows, and 200 are needed"

    def test_all_of_it_is_kept_and_its_history_too(self, champion: Pipeline) -> None:
        asked.log(asked.rows())
        page.forget()
        found = examine(champion)
        assert Examination.model_validate_json(examination.DOCUMENT.read_bytes()) == found
        assert not examination.ACCOUNT.exists()  # of what has not moved
        newest = history.past(champion.client, "toy", 1)[0]
        assert (newest.at, newest.version, newest.verdict) == (found.at, "1", "none")


class TestWarehouse:
    def test_the_champion_is_asked_about_the_newest_rows_itself(self, champion: Pipeline) -> None:
        found = examine(champion, "warehouse")
        assert found.decision.verdict == "none", found.summary
        assert (found.rows, [one.name for one in found.drifts][-1]) == (280, "the predictions")
        assert found.now
        assert found.now.value > 0.75

    def test_a_world_that_has_changed_calls_for_a_training(self, champion: Pipeline) -> None:
        frame = events()
        new = frame["seen"] >= "2020-03-01"
        frame.loc[new, "x"] += 2
        frame.loc[new, "late"] = ~frame.loc[new, "late"]
        with warehouse_of(frame):
            found = examine(champion, "warehouse")
        assert found.decision.verdict == "retrain"
        assert found.decision.cause == "the predictions and x moved; the live roc_auc fell"

    def test_a_column_of_another_type_is_said_and_so_is_that_the_champion_cannot_answer(
        self, champion: Pipeline
    ) -> None:
        frame = events()
        frame["y"] = "far"
        with warehouse_of(frame):
            found = examine(champion, "warehouse")
        assert "«y» is of type string now, not a number" in message(found, "odd")
        assert "version 1 cannot answer for the newest rows" in message(found, "odd")
        assert found.decision.verdict == "warn"

    def test_a_warehouse_that_is_not_there_is_a_fault(
        self, champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CT_WAREHOUSE_URL", "duckdb://.ct/nowhere.duckdb")
        found = examine(champion, "warehouse")
        assert (found.decision.verdict, "is not there" in found.faults[0]) == ("not enough data", True)

    def test_a_day_in_the_future_is_said(self, champion: Pipeline) -> None:
        made = examination.of(champion.client, "toy", "warehouse", "2199-01-01")
        found = made.examine("none", "2199-01-01")
        assert "AS_OF=2199-01-01 00:00 lies in the future" in message(found, "odd")
        assert found.decision.verdict == "not enough data"


class TestPing:
    def test_there_is_one_however_often_it_is_examined(self, champion: Pipeline) -> None:
        asked.log(asked.rows(shift=2))
        with jenkins() as there:
            found = [examine(champion, url=there.url) for _ in range(2)]
        assert len(there.pings) == 1
        assert there.pings[0]["reason"] == "version 1: the predictions and x moved"
        assert there.pings[0]["as_of"] == "2020-03-20"
        assert there.pings[0]["evidence"] == found[0].evidence
        assert [one.decision.verdict for one in found] == ["retrain", "retrain"]
        assert found[1].asking
        assert "that was done for version 1, and is not done again before" in str(found[1].asking.skip_reason)

    def test_after_the_cool_down_it_asks_again_in_the_same_words(self, champion: Pipeline) -> None:
        asked.log(asked.rows(shift=2))
        with jenkins() as there:
            examine(champion, url=there.url, cool_down_hours=0)
            asked.log(asked.rows(shift=2.2, start=5000))
            examine(champion, url=there.url, cool_down_hours=0)
        assert len({one["reason"] for one in there.pings}) == 1
        assert len(there.pings) == 2

    def test_what_did_not_arrive_is_a_fault_and_is_sent_at_the_next_check(self, champion: Pipeline) -> None:
        asked.log(asked.rows(shift=2))
        with jenkins(busy=4) as there:
            found = examine(champion, url=there.url)
            assert "cannot be reached" in found.faults[0]
            assert state.State.of(the(champion)).pinged is None
            examine(champion, url=there.url)
        assert len(there.pings) == 1

    def test_without_a_jenkins_it_shows_the_ping_and_remembers_none(self, champion: Pipeline) -> None:
        asked.log(asked.rows(shift=2))
        found = examine(champion)
        assert found.asking
        assert "no Jenkins is named" in found.summary
        assert state.State.of(the(champion)).pinged is None

    def test_a_warning_sends_none(self, champion: Pipeline) -> None:
        frame = asked.rows()
        frame["y"] += 2
        asked.log(frame)
        with jenkins() as there:
            examine(champion, url=there.url)
        assert there.asked == 0

    def test_evidence_is_kept_where_the_ping_says(self, champion: Pipeline) -> None:
        asked.log(asked.rows(shift=2))
        with jenkins() as there:
            examine(champion, url=there.url)
        run = there.pings[0]["evidence"].removeprefix("runs:/")
        kept = {one.path for one in champion.client.list_artifacts(run)}
        assert kept == {history.DOCUMENT, examination.ACCOUNT.name}
        assert "<script" in examination.ACCOUNT.read_text()


class TestBadInput:
    def test_no_champion(self, champion: Pipeline) -> None:
        champion.client.delete_registered_model_alias("toy", model_versions.CHAMPION)
        try:
            found = examine(champion)
        finally:
            champion.client.set_registered_model_alias("toy", model_versions.CHAMPION, "1")
        assert (found.decision.verdict, found.model_version) == ("not enough data", None)
        assert "toy has no champion" in message(found, "note")

    def test_no_reference(self, champion: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reference, "FOLDER", "nowhere")
        found = examine(champion)
        assert found.decision.verdict == "not enough data"
        assert "version 1 has no reference" in message(found, "note")

    def test_an_empty_log(self, champion: Pipeline) -> None:
        found = examine(champion)
        assert (found.decision.verdict, found.decision.message) == ("not enough data", "the predictions log is empty")

    def test_a_log_that_nobody_keeps(self, champion: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CT_PREDICTIONS", "none")
        assert "use --source warehouse" in examine(champion).faults[0]

    def test_a_log_that_cannot_be_read(self, champion: Pipeline, tmp_path: Path) -> None:
        asked.log(asked.rows())
        [whole] = (tmp_path / "predictions").rglob("*.parquet")
        whole.with_name("torn.parquet").write_bytes(whole.read_bytes()[:-100])
        found = examine(champion)
        assert found.decision.verdict == "not enough data"
        assert "the predictions log cannot be read" in found.faults[0]
        assert "torn.parquet" in found.faults[0]

    def test_a_column_that_has_disappeared(self, champion: Pipeline) -> None:
        asked.log(asked.rows().drop(columns="y"))
        found = examine(champion)
        assert message(found, "odd") == "«y» has disappeared: no row has such a column"
        assert found.decision.verdict == "warn"

    def test_a_column_that_is_kept_from_the_log_has_not_disappeared(self, champion: Pipeline) -> None:
        asked.log(asked.rows().drop(columns="y"))
        given = load_settings("toy")
        given = given.model_copy(update={"serving": given.serving.model_copy(update={"redacted": ("y",)})})
        found = Examiner(champion.client, "toy", given, "log", AS_OF).examine("none", None)
        assert message(found, "odd") == ""
        assert "y cannot be examined: serving.redacted keeps it from the log" in message(found, "note")

    def test_a_column_that_training_yaml_has_and_the_champion_never_learnt_has_not_disappeared(
        self, champion: Pipeline
    ) -> None:
        asked.log(asked.rows())
        given = load_settings("toy")
        columns = given.data.columns | {"z": Column(type="number")}
        given = given.model_copy(update={"data": given.data.model_copy(update={"columns": columns})})
        found = Examiner(champion.client, "toy", given, "log", AS_OF).examine("none", None)
        assert (found.decision.verdict, message(found, "odd")) == ("none", "")

    def test_a_number_without_end_is_no_number(self, champion: Pipeline) -> None:
        frame = asked.rows()
        frame.loc[:299, "y"] = np.inf
        asked.log(frame)
        assert "«y» is no number in 25% of the rows" in message(examine(champion), "odd")

    def test_a_column_that_has_no_values(self, champion: Pipeline) -> None:
        frame = asked.rows()
        frame["y"] = None
        asked.log(frame)
        found = examine(champion)
        assert message(found, "odd") == "«y» has no value in any row"
        assert "y" not in {one.name for one in found.drifts}

    def test_a_column_whose_type_has_changed(self, champion: Pipeline) -> None:
        frame = asked.rows()
        frame["y"] = frame["y"].astype(object)
        frame.loc[:599, "y"] = "far"
        asked.log(frame)
        assert "«y» is no number in 50% of the rows" in message(examine(champion), "odd")

    def test_categories_that_were_never_learnt(self, champion: Pipeline) -> None:
        frame = asked.rows()
        frame.loc[:299, "shade"] = "mauve"
        asked.log(frame)
        found = examine(champion)
        assert "«shade» has a value that was never learnt in 25% of the rows" in message(found, "odd")
        assert "shade" in {one.name for one in found.drifts if one.moved}

    def test_values_out_of_their_range_and_nulls_beyond_what_is_allowed(self, champion: Pipeline) -> None:
        frame = asked.rows()
        frame.loc[:299, "x"] = 11
        frame.loc[:599, "y"] = np.nan
        asked.log(frame)
        odd = message(examine(champion), "odd")
        assert "«x» is outside of -10.0 to 10.0 in 25% of the rows" in odd
        assert "«y» has no value in 5" in odd

    def test_answers_of_other_versions_and_roles_are_left_out_and_counted(self, champion: Pipeline) -> None:
        asked.log(asked.rows())
        asked.log(asked.rows(count=300, shift=5), version="2", role="shadow")
        asked.log(asked.rows(count=200, shift=5), version="7")
        found = examine(champion)
        assert found.rows == 1200
        assert "left out of the window: 300 of version 2 as shadow, 200 of version 7 as champion" in message(
            found, "note"
        )

    def test_answers_of_the_future_are_left_out_and_said(self, champion: Pipeline) -> None:
        asked.log(asked.rows())
        asked.log(asked.rows(count=300, shift=5, start=5000), ago=timedelta(days=-2))
        found = examine(champion)
        assert found.rows == 1200
        assert "300 rows were answered in the future" in message(found, "odd")

    def test_answers_from_before_the_window_are_left_out(self, champion: Pipeline) -> None:
        asked.log(asked.rows())
        asked.log(asked.rows(shift=5, start=5000), ago=timedelta(days=7, hours=1))
        assert examine(champion).rows == 1200

    def test_what_the_monitor_once_wrote_and_cannot_be_read_is_forgotten(self, champion: Pipeline) -> None:
        champion.client.set_model_version_tag("toy", "1", state.TAG, "{")
        asked.log(asked.rows(shift=2))
        assert examine(champion).decision.verdict == "retrain"


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
        asked.log(asked.rows())
        asked.log(asked.rows(start=5000), ago=timedelta(days=30))
        assert examine(champion).rows == 1200
        monkeypatch.setenv("CT_PREDICTIONS", "s3://nowhere/all")
        assert "the predictions log at s3://nowhere/all cannot be read" in examine(champion).faults[0]
    finally:
        server.stop()


def test_rows_that_still_wait_in_a_journal_are_counted_once(champion: Pipeline, tmp_path: Path) -> None:
    asked.log(asked.rows())
    [moved] = (tmp_path / "predictions").rglob("*.parquet")
    folder = STATE / "serving" / "journal" / "toy"
    try:
        log = PredictionsLog(str(tmp_path / "unmoved"), "toy", state=folder.parent, count=lambda *_: None)
        log.append(asked.batch(asked.rows(count=300, start=5000)))
        log._write_queue()  # as its thread does while it lives: the journal is being written
        assert examine(champion).rows == 1500
        [path] = folder.glob("*.journal")
        twin = tmp_path / "predictions" / "toy" / journal._parquet_name(path)
        twin.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(moved, twin)  # a move that was cut short before the journal was removed
        assert examine(champion).rows == 1500
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_reference_is_the_same_however_often_it_is_drawn(champion: Pipeline) -> None:
    from continuous_training.monitoring import profile

    path = champion.snapshot.train.path
    drawn = [profile.sample(path, champion.settings).to_pandas() for _ in range(2)]
    assert drawn[0].equals(drawn[1])
    kept = reference.kept(champion.client, the(champion))
    assert kept
    assert kept.sample.equals(drawn[0])
    assert list(kept.sample.columns) == ["shade", "x", "y"]
    assert kept.learnt.columns["shade"].values == pytest.approx({"red": 1 / 3, "green": 1 / 3, "blue": 1 / 3}, abs=0.05)
    assert kept.learnt.columns["y"].null_share == pytest.approx(0.1, abs=0.05)
    assert len(kept.learnt.columns["x"].distances) == 6
    assert kept.learnt.measured is not None
    assert len(kept.learnt.measured.windows) == 2  # weeks of the fresh rows
    assert min(kept.learnt.measured.windows) <= kept.learnt.measured.value <= max(kept.learnt.measured.windows)
    assert len(kept.predictions) == 560  # of the fresh rows, which it was not fitted on


def test_now_is_the_clock_of_the_servers(champion: Pipeline) -> None:
    asked.log(asked.rows())
    given = load_settings("toy")
    later = datetime.now(UTC) + timedelta(days=8)
    found = Examiner(champion.client, "toy", given, "log", AS_OF, later).examine("none", None)
    assert found.decision.verdict == "not enough data"
