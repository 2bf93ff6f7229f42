"""New data: the changes since the champion's snapshot, when they are enough, and one ping for the same changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import duckdb
import ibis
import pandas as pd
import pytest

from continuous_training import http_client
from continuous_training.errors import UserError
from continuous_training.monitoring.new_data import check, row_counts, watermark
from continuous_training.monitoring.new_data.check import NewDataCheck
from continuous_training.monitoring.new_data.ping_state import CLAIM_TIMEOUT, PingState
from continuous_training.monitoring.new_data.row_counts import DayCount, RowCounts, count_rows
from continuous_training.registry import model_versions
from continuous_training.settings import load_settings
from jenkins_stub import TOKEN, jenkins
from pipeline import Pipeline
from toy import change, events, store

LATER = "2020-03-11"  # the champion has AS_OF 2020-03-01, and its data end a day before
WAREHOUSE = Path(".ct/warehouse.duckdb")


@pytest.fixture(scope="module")
def champion(mlflow_workspace_patch: pytest.MonkeyPatch) -> Pipeline:
    """Promote version 1 of the toy model, whose snapshot has 59 days of 40 events."""
    change("serving: {", "triggers: {min_new_rows: 100, min_new_share: 0.1}\nserving: {")
    pipeline = Pipeline(mlflow_workspace_patch)
    pipeline.promote(compare=False)
    return pipeline


@pytest.fixture(autouse=True)
def _reset(champion: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setattr(http_client, "RETRIES", http_client.RETRIES.new(backoff_factor=0))
    training = Path("src/toy/training.yaml").read_text()
    if PingState.tag in version_1(champion).tags:
        champion.client.delete_model_version_tag("toy", "1", PingState.tag)
    store(events()[events()["seen"] < datetime(2020, 2, 29)])
    yield
    Path("src/toy/training.yaml").write_text(training)


def version_1(champion: Pipeline) -> model_versions.Version:
    version = model_versions.by_number(champion.client, "toy", "1")
    assert version
    return version


def insert(frame: pd.DataFrame) -> None:
    with duckdb.connect(WAREHOUSE) as connection:
        connection.register("frame", frame)
        connection.execute("INSERT INTO events SELECT * FROM frame")


def execute(sql: str) -> None:
    with duckdb.connect(WAREHOUSE) as connection:
        connection.execute(sql)


def new_events(rows: int) -> pd.DataFrame:
    """Return the first events after the champion's snapshot."""
    frame = events()
    return frame[frame["seen"] >= datetime(2020, 2, 29)].head(rows)


def late_events(rows: int) -> pd.DataFrame:
    """Return events of 10 February that are not in the snapshot."""
    frame = events(days=1, per_day=rows, start="2020-02-10")
    return frame.assign(id=frame["id"] + 100_000)


def run_check(champion: Pipeline, url: str = "none", as_of: str = LATER, origin: str = "") -> NewDataCheck:
    return check.check_new_data(champion.client, "toy", url, as_of, origin)


class TestChanges:
    def test_without_changes_there_is_nothing_new(self, champion: Pipeline) -> None:
        result = run_check(champion)
        assert result.summary == "nothing new: no new rows since 2020-02-29"
        assert result.ping_result is None

    def test_new_rows_are_compared_with_the_snapshot(self, champion: Pipeline) -> None:
        insert(new_events(300))
        result = run_check(champion)
        assert result.summary.startswith("enough: 300 new rows since 2020-02-29 (+12.7%); 236 are needed\n")

    def test_rows_whose_labels_are_not_known_yet_do_not_count(self, champion: Pipeline) -> None:
        insert(new_events(300))
        result = run_check(champion, as_of="2020-03-04")
        assert result.changes
        assert result.changes.new_rows == 3 * 40

    def test_late_rows_count(self, champion: Pipeline) -> None:
        insert(late_events(240))
        result = run_check(champion)
        assert result.message == "no new rows since 2020-02-29, 240 late; 236 are needed"
        assert result.verdict == "enough"

    def test_all_rows_of_a_corrected_day_count(self, champion: Pipeline) -> None:
        execute("UPDATE events SET late = NOT late WHERE seen >= '2020-02-20' AND seen < '2020-02-26' AND id % 40 = 7")
        result = run_check(champion)
        assert result.message == "no new rows since 2020-02-29, 6 corrected days; 236 are needed"
        assert result.verdict == "enough"
        assert result.changes
        assert result.changes.corrected_rows == 6 * 40

    def test_a_correction_of_one_value_in_any_column_is_detected(self, champion: Pipeline) -> None:
        corrections = [
            *("late = NOT late", "x = x + 0.002", "x = NULL", "y = 0.5", "shade = 'mauve'", "shade = NULL"),
            *("seen = seen + INTERVAL '1' SECOND", "id = id + 1000000"),
        ]
        for day, correction in enumerate(corrections, start=20):
            execute(f"UPDATE events SET {correction} WHERE id = {day * 40 + 7}")
        assert f"{len(corrections)} corrected days" in run_check(champion).message

    def test_two_rows_that_exchange_their_labels_are_detected(self, champion: Pipeline) -> None:
        execute("UPDATE events SET late = CASE id WHEN 2000 THEN TRUE ELSE FALSE END WHERE id IN (2000, 2001)")
        before = run_check(champion).changes
        execute("UPDATE events SET late = CASE id WHEN 2001 THEN TRUE ELSE FALSE END WHERE id IN (2000, 2001)")
        after = run_check(champion).changes
        assert before
        assert after
        assert before.digest != after.digest

    def test_rewriting_the_rows_in_another_order_and_type_is_no_change(self, champion: Pipeline) -> None:
        execute(
            "CREATE TABLE rewritten AS "
            "SELECT id::INTEGER AS id, seen::TIMESTAMPTZ AS seen, shade, x, y, late FROM events"
        )
        execute("DROP TABLE events; CREATE TABLE events AS SELECT * FROM rewritten ORDER BY x")
        assert run_check(champion).verdict == "nothing new"

    def test_the_message_lists_all_changes(self, champion: Pipeline) -> None:
        insert(new_events(300))
        insert(late_events(12))
        execute("UPDATE events SET x = 0 WHERE id IN (2007, 2100)")
        execute("DELETE FROM events WHERE id IN (1000, 1001, 1002)")
        result = run_check(champion)
        assert result.message.startswith(
            "300 new rows since 2020-02-29 (+12.7%), 12 late, 2 corrected days, 3 deleted; 236 are needed"
        )
        assert "· 3 rows of the champion's snapshot were deleted" in result.summary

    def test_deleted_rows_are_no_reason_to_train(self, champion: Pipeline) -> None:
        execute("DELETE FROM events WHERE id % 2 = 0")
        assert run_check(champion).verdict == "nothing new"

    def test_changes_before_the_training_window_do_not_count(self, champion: Pipeline) -> None:
        as_of = "2020-03-21T12:00"  # the training window of a run begins on 6 January, 12:00
        execute("UPDATE events SET late = NOT late WHERE seen < '2020-01-07'")
        assert run_check(champion, as_of=as_of).verdict == "nothing new"
        execute("UPDATE events SET late = NOT late WHERE seen < '2020-01-08'")
        assert "1 corrected day;" in run_check(champion, as_of=as_of).message


class TestThresholds:
    def test_both_the_number_and_the_share_of_rows_must_be_reached(self, champion: Pipeline) -> None:
        insert(new_events(235))
        assert run_check(champion).message.endswith("; 236 are needed")
        assert run_check(champion).verdict == "not enough"
        change("min_new_share: 0.1", "min_new_share: 0")
        assert run_check(champion).verdict == "enough"
        change("min_new_rows: 100", "min_new_rows: 236")
        assert run_check(champion).verdict == "not enough"

    def test_any_new_row_is_enough_if_the_training_data_are_old(self, champion: Pipeline) -> None:
        change("min_new_share: 0.1", "min_new_share: 0.1, max_age: 10")
        insert(new_events(1))
        assert run_check(champion, as_of="2020-03-09").verdict == "not enough"
        result = run_check(champion)
        assert (
            result.message
            == "1 new row since 2020-02-29 (+0.0%); the newest row of the last training data is 11.0 days old"
        )
        assert result.verdict == "enough"

    def test_no_changes_are_never_enough(self, champion: Pipeline) -> None:
        change("min_new_share: 0.1", "min_new_share: 0, max_age: 1")
        assert run_check(champion).verdict == "nothing new"


class TestPing:
    def test_the_reason_has_the_changes_and_their_origin(self, champion: Pipeline) -> None:
        insert(new_events(300))
        with jenkins() as stub:
            result = run_check(champion, stub.url, origin=check.describe_sync("flights\n → warehouse", 20_000))
        assert stub.pings == [
            {
                "trigger": "data",
                "reason": "Airbyte synced 20,000 rows of flights → warehouse: 300 new rows since 2020-02-29 (+12.7%)",
                "as_of": LATER,
                "model": "toy",
                "model_version": "1",
            }
        ]
        assert result.summary.endswith("Triggered a training in Jenkins: model/main")

    def test_the_same_rows_are_one_ping_and_more_rows_another(self, champion: Pipeline) -> None:
        insert(new_events(300))
        with jenkins() as stub:
            verdicts = [run_check(champion, stub.url).verdict for _ in range(2)]
            insert(late_events(10))
            verdicts.append(run_check(champion, stub.url).verdict)
            insert(late_events(230))
            verdicts.append(run_check(champion, stub.url).verdict)
        assert verdicts == ["enough", "already requested", "not enough", "enough"]
        assert [ping["reason"].partition("%)")[2] for ping in stub.pings] == ["", ", 240 late"]

    def test_max_age_counts_from_the_last_ping(self, champion: Pipeline) -> None:
        change("min_new_share: 0.1", "min_new_share: 0.1, max_age: 5")
        insert(new_events(300))
        with jenkins() as stub:
            run_check(champion, stub.url)
            insert(late_events(1))
            assert run_check(champion, stub.url, as_of="2020-03-25").verdict == "not enough"
            insert(new_events(301).tail(1))
            assert run_check(champion, stub.url).verdict == "not enough"
            assert run_check(champion, stub.url, as_of="2020-03-25").verdict == "enough"
        assert len(stub.pings) == 2

    def test_two_checks_at_the_same_time_are_one_ping(self, champion: Pipeline) -> None:
        insert(new_events(300))
        with jenkins() as stub:
            checks = [threading.Thread(target=run_check, args=(champion, stub.url)) for _ in range(2)]
            for thread in checks:
                thread.start()
            for thread in checks:
                thread.join()
        assert len(stub.pings) == 1

    def test_the_claim_of_a_killed_check_expires(self, champion: Pipeline) -> None:
        insert(new_events(300))
        killed = PingState(claimed_at=datetime.now().astimezone())
        killed.write(champion.client, version_1(champion))
        with jenkins() as stub:
            assert "another check is sending a ping" in run_check(champion, stub.url).summary
            killed.model_copy(update={"claimed_at": killed.claimed_at - CLAIM_TIMEOUT}).write(
                champion.client, version_1(champion)
            )
            run_check(champion, stub.url)
        assert len(stub.pings) == 1

    def test_a_failed_ping_is_sent_by_the_next_check(self, champion: Pipeline) -> None:
        insert(new_events(300))
        with jenkins(busy=4) as stub:
            result = run_check(champion, stub.url)
            assert result.ping_result
            assert "cannot be reached" in str(result.ping_result.error)
            run_check(champion, stub.url)
        assert len(stub.pings) == 1

    def test_without_a_jenkins_the_ping_is_printed_and_not_stored(self, champion: Pipeline) -> None:
        insert(new_events(300))
        for _ in range(2):
            result = run_check(champion)
            assert result.ping_result
            assert "POST $JENKINS_URL/generic-webhook-trigger/invoke" in str(result.ping_result.preview)
        assert PingState.tag not in version_1(champion).tags

    def test_without_as_of_the_ping_has_none(self, champion: Pipeline) -> None:
        change("label_delay_days: 1", "label_delay_days: 1\n  clock: 2020-03-11")
        insert(new_events(300))
        result = run_check(champion, as_of="")
        assert result.ping_result
        assert result.ping_result.ping.as_of is None

    @pytest.mark.parametrize(
        ("connection", "rows", "message"),
        [
            ("", None, ""),
            ("", 7, ""),
            ("flights", None, "Airbyte synced flights"),
            ("flights", 1400, "Airbyte synced 1,400 rows of flights"),
        ],
    )
    def test_the_origin_is_empty_without_a_connection(self, connection: str, rows: int | None, message: str) -> None:
        assert check.describe_sync(connection, rows) == message


class TestInvalidInput:
    def test_without_a_champion_no_ping_is_sent(self, champion: Pipeline) -> None:
        champion.client.delete_registered_model_alias("toy", model_versions.CHAMPION)
        try:
            result = run_check(champion)
        finally:
            champion.client.set_registered_model_alias("toy", model_versions.CHAMPION, "1")
        assert result.message == "toy has no champion: new data do not start the first training"
        assert (result.verdict, result.ping_result) == ("unknown", None)

    def test_a_champion_without_a_watermark_is_reported(
        self, champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watermark, "FILE", "nowhere.json")
        assert "version 1 has no watermark" in run_check(champion).message

    def test_a_watermark_in_an_unsupported_format_is_an_error(
        self, champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watermark, "FILE", "snapshot.json")
        with pytest.raises(UserError, match="the watermark of version 1 has an unsupported format"):
            run_check(champion)

    def test_as_of_before_the_end_of_the_snapshot_is_reported(self, champion: Pipeline) -> None:
        result = run_check(champion, as_of="2020-02-20")
        assert result.message == "AS_OF=2020-02-20 is before the end of the champion's snapshot, 29 February 2020"

    def test_as_of_in_the_future_is_a_warning(self, champion: Pipeline) -> None:
        insert(new_events(300))
        assert "lies in the future: is a clock wrong?" in run_check(champion, as_of="2199-01-01").summary

    def test_rows_in_the_future_do_not_count(self, champion: Pipeline) -> None:
        insert(new_events(300).assign(seen=datetime(2199, 1, 1)))
        assert run_check(champion).verdict == "nothing new"

    def test_rows_without_a_time_do_not_count(self, champion: Pipeline) -> None:
        change("seen < $until", "seen < $until OR seen IS NULL")
        insert(new_events(300).assign(seen=pd.NaT))
        result = run_check(champion)
        assert "· 300 rows have no time and do not count" in result.summary
        assert result.verdict == "nothing new"

    def test_an_empty_table_has_nothing_new(self, champion: Pipeline) -> None:
        execute("DELETE FROM events")
        result = run_check(champion)
        assert result.verdict == "nothing new"
        assert "2,360 rows of the champion's snapshot were deleted" in result.summary

    def test_a_missing_table_is_an_error(self, champion: Pipeline) -> None:
        execute("DROP TABLE events")
        with pytest.raises(UserError, match="the warehouse rejects the query: .*events"):
            run_check(champion)

    def test_after_a_change_of_the_query_only_new_rows_count(self, champion: Pipeline) -> None:
        change("seen < $until", "seen < $until AND x < 1")
        insert(new_events(300))
        result = run_check(champion)
        assert "late and corrected rows cannot be counted" in result.summary
        assert result.changes
        assert (result.changes.corrected_rows, result.changes.deleted_rows) == (0, 0)
        assert 0 < result.changes.new_rows < 300

    def test_a_missing_column_is_an_error(self, champion: Pipeline) -> None:
        change("SELECT id, seen, shade, x, y, late", "SELECT *")
        execute("ALTER TABLE events DROP COLUMN y")
        with pytest.raises(UserError, match="the query returns no column 'y'"):
            run_check(champion)

    def test_a_column_of_another_type_is_an_error(self, champion: Pipeline) -> None:
        execute("ALTER TABLE events ALTER x TYPE VARCHAR")
        with pytest.raises(UserError, match="column 'x' has type string, training.yaml declares number"):
            run_check(champion)

    def test_a_correction_to_infinity_counts_and_nan_equals_null(self, champion: Pipeline) -> None:
        execute("UPDATE events SET x = 'inf' WHERE id = 2007")
        execute("UPDATE events SET y = 'nan' WHERE y IS NULL")
        assert "1 corrected day;" in run_check(champion).message

    def test_an_unreadable_state_is_ignored(self, champion: Pipeline) -> None:
        champion.client.set_model_version_tag("toy", "1", PingState.tag, "{")
        insert(new_events(300))
        with jenkins() as stub:
            run_check(champion, stub.url)
        assert len(stub.pings) == 1


def test_a_snapshot_and_the_warehouse_have_the_same_counts(champion: Pipeline) -> None:
    stored = watermark.load_watermark(champion.client, version_1(champion))
    assert stored
    assert (stored.rows, len(stored.days)) == (2360, 59)
    settings = load_settings("toy")
    counts: RowCounts = count_rows(
        ibis.duckdb.connect(WAREHOUSE, read_only=True).table("events"), settings.data, stored.until
    )
    assert counts.before == stored.days


def count_row(row: dict[str, object]) -> DayCount:
    """Count a row whose other columns are numbers and texts."""
    kinds = {"id": "integer", "seen": "timestamp", "late": "boolean"}
    columns: dict[str, object] = {name: {"type": kind, "feature": False} for name, kind in kinds.items()}
    columns |= {name: {"type": "category" if isinstance(value, str) else "number"} for name, value in row.items()}
    data = load_settings("toy").data.model_validate(
        {"source": "events.csv", "time": "seen", "target": "late", "key": ["id"], "columns": columns}
        | {"train_days": 30, "fresh_days": 7}
    )
    table = ibis.memtable(pd.DataFrame([{"id": 1, "seen": datetime(2020, 1, 1), "late": True} | row]))
    return count_rows(table, data, datetime(2020, 1, 2)).before[date(2020, 1, 1)]


def test_the_rows_of_more_than_a_thousand_columns_are_counted() -> None:
    numbers = {f"number_{place}": 0.5 for place in range(1000)}
    texts = {f"text_{place}": "a" for place in range(row_counts.TEXTS_AT_ONCE + 1)}
    assert count_row(numbers | texts).rows == 1


def test_a_change_of_any_text_is_noticed_if_they_are_hashed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_counts, "TEXTS_AT_ONCE", 2)
    row = {"text_1": "a", "text_2": "a", "text_3": "a", "number": 0.5}
    changed = [row, *(row | {name: "b"} for name in ("text_1", "text_2", "text_3")), row | {"number": 0.7}]
    assert len({count_row(each).checksum for each in changed}) == len(changed)
