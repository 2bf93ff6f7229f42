"""New data: what has come since the champion's snapshot, when that is enough, and one ping for the same news."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import duckdb
import ibis
import pandas as pd
import pytest

from continuous_training import http_client
from continuous_training.errors import UserError
from continuous_training.monitoring.new_data import asked, check, kept
from continuous_training.monitoring.new_data.asked import Asked
from continuous_training.monitoring.new_data.check import Checked
from continuous_training.monitoring.new_data.counted import Counted, counted
from continuous_training.registry import model_versions
from continuous_training.settings import load_settings
from jenkins_stub import TOKEN, jenkins
from pipeline import Pipeline
from toy import change, events, store

LATER = "2020-03-11"  # the toy's champion stands at 2020-03-01, and its rows end a day before
WAREHOUSE = Path(".ct/warehouse.duckdb")


@pytest.fixture(scope="module")
def champion(tracked_module: pytest.MonkeyPatch) -> Pipeline:
    """Version 1 of the toy model, which has learnt from 59 days of 40 events."""
    change("serving: {", "triggers: {min_new_rows: 100, min_new_share: 0.1}\nserving: {")
    made = Pipeline(tracked_module)
    made.promote(compare=False)
    return made


@pytest.fixture(autouse=True)
def _begins_anew(champion: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setattr(http_client, "RETRIES", http_client.RETRIES.new(backoff_factor=0))
    training = Path("src/toy/training.yaml").read_text()
    if Asked.tag in the(champion).tags:
        champion.client.delete_model_version_tag("toy", "1", Asked.tag)
    store(events()[events()["seen"] < datetime(2020, 2, 29)])
    yield
    Path("src/toy/training.yaml").write_text(training)


def the(champion: Pipeline) -> model_versions.Version:
    version = model_versions.by_number(champion.client, "toy", "1")
    assert version
    return version


def insert(frame: pd.DataFrame) -> None:
    with duckdb.connect(WAREHOUSE) as connection:
        connection.register("frame", frame)
        connection.execute("INSERT INTO events SELECT * FROM frame")


def run(sql: str) -> None:
    with duckdb.connect(WAREHOUSE) as connection:
        connection.execute(sql)


def new(rows: int) -> pd.DataFrame:
    """Give so many of the events that come after the champion's."""
    frame = events()
    return frame[frame["seen"] >= datetime(2020, 2, 29)].head(rows)


def late(rows: int) -> pd.DataFrame:
    """Give so many events of 10 February that nobody has seen."""
    frame = events(days=1, a_day=rows, start="2020-02-10")
    return frame.assign(id=frame["id"] + 100_000)


def look(champion: Pipeline, url: str = "none", as_of: str = LATER, because: str = "") -> Checked:
    return check.check(champion.client, "toy", url, as_of, because)


class TestWhatHasCome:
    def test_nothing(self, champion: Pipeline) -> None:
        found = look(champion)
        assert found.summary == "nothing new: no new rows since 2020-02-29"
        assert found.asking is None

    def test_new_rows_are_counted_against_those_of_the_champion(self, champion: Pipeline) -> None:
        insert(new(300))
        found = look(champion)
        assert found.summary.startswith("enough: 300 new rows since 2020-02-29 (+12.7%); 236 are needed\n")

    def test_rows_whose_labels_are_not_sure_yet_do_not_count(self, champion: Pipeline) -> None:
        insert(new(300))
        found = look(champion, as_of="2020-03-04")
        assert found.news
        assert found.news.new == 3 * 40

    def test_late_rows_count(self, champion: Pipeline) -> None:
        insert(late(240))
        found = look(champion)
        assert found.message == "no new rows since 2020-02-29, 240 late; 236 are needed"
        assert found.verdict == "enough"

    def test_of_a_corrected_day_all_rows_count(self, champion: Pipeline) -> None:
        run("UPDATE events SET late = NOT late WHERE seen >= '2020-02-20' AND seen < '2020-02-26' AND id % 40 = 7")
        found = look(champion)
        assert found.message == "no new rows since 2020-02-29, 6 corrected days; 236 are needed"
        assert found.verdict == "enough"
        assert found.news
        assert found.news.corrected == 6 * 40

    def test_a_correction_of_one_value_is_noticed_in_any_column(self, champion: Pipeline) -> None:
        corrections = [
            *("late = NOT late", "x = x + 0.002", "x = NULL", "y = 0.5", "shade = 'mauve'", "shade = NULL"),
            *("seen = seen + INTERVAL '1' SECOND", "id = id + 1000000"),
        ]
        for day, correction in enumerate(corrections, start=20):
            run(f"UPDATE events SET {correction} WHERE id = {day * 40 + 7}")
        assert f"{len(corrections)} corrected days" in look(champion).message

    def test_two_rows_that_change_their_labels_are_noticed(self, champion: Pipeline) -> None:
        run("UPDATE events SET late = CASE id WHEN 2000 THEN TRUE ELSE FALSE END WHERE id IN (2000, 2001)")
        before = look(champion).news
        run("UPDATE events SET late = CASE id WHEN 2001 THEN TRUE ELSE FALSE END WHERE id IN (2000, 2001)")
        after = look(champion).news
        assert before
        assert after
        assert before.digest != after.digest

    def test_rows_that_are_written_again_in_another_order_and_type_are_no_news(self, champion: Pipeline) -> None:
        run("CREATE TABLE again AS SELECT id::INTEGER AS id, seen::TIMESTAMPTZ AS seen, shade, x, y, late FROM events")
        run("DROP TABLE events; CREATE TABLE events AS SELECT * FROM again ORDER BY x")
        assert look(champion).verdict == "nothing new"

    def test_all_is_said_in_a_row(self, champion: Pipeline) -> None:
        insert(new(300))
        insert(late(12))
        run("UPDATE events SET x = 0 WHERE id IN (2007, 2100)")
        run("DELETE FROM events WHERE id IN (1000, 1001, 1002)")
        found = look(champion)
        assert found.message.startswith(
            "300 new rows since 2020-02-29 (+12.7%), 12 late, 2 corrected days, 3 gone; 236 are needed"
        )
        assert "· 3 rows that the champion has learnt from are gone" in found.summary

    def test_rows_that_are_gone_are_no_reason_to_train(self, champion: Pipeline) -> None:
        run("DELETE FROM events WHERE id % 2 = 0")
        assert look(champion).verdict == "nothing new"

    def test_what_comes_of_days_that_no_run_would_use_any_more_is_no_news(self, champion: Pipeline) -> None:
        moment = "2020-03-21T12:00"  # a run would use what is from 6 January, 12:00, on
        run("UPDATE events SET late = NOT late WHERE seen < '2020-01-07'")
        assert look(champion, as_of=moment).verdict == "nothing new"
        run("UPDATE events SET late = NOT late WHERE seen < '2020-01-08'")
        assert "1 corrected day;" in look(champion, as_of=moment).message


class TestWhenItIsEnough:
    def test_it_takes_as_many_rows_and_as_large_a_share_as_must_be(self, champion: Pipeline) -> None:
        insert(new(235))
        assert look(champion).message.endswith("; 236 are needed")
        assert look(champion).verdict == "not enough"
        change("min_new_share: 0.1", "min_new_share: 0")
        assert look(champion).verdict == "enough"
        change("min_new_rows: 100", "min_new_rows: 236")
        assert look(champion).verdict == "not enough"

    def test_anything_is_enough_when_the_newest_row_is_old(self, champion: Pipeline) -> None:
        change("min_new_share: 0.1", "min_new_share: 0.1, max_age: 10")
        insert(new(1))
        assert look(champion, as_of="2020-03-09").verdict == "not enough"
        found = look(champion)
        assert (
            found.message == "1 new row since 2020-02-29 (+0.0%); the newest row that was learnt from is 11.0 days old"
        )
        assert found.verdict == "enough"

    def test_nothing_is_never_enough(self, champion: Pipeline) -> None:
        change("min_new_share: 0.1", "min_new_share: 0, max_age: 1")
        assert look(champion).verdict == "nothing new"


class TestPing:
    def test_it_says_what_came_and_who_brought_it(self, champion: Pipeline) -> None:
        insert(new(300))
        with jenkins() as there:
            found = look(champion, there.url, because=check.synced("flights\n → warehouse", 20_000))
        assert there.pings == [
            {
                "trigger": "data",
                "reason": "Airbyte synced 20,000 rows of flights → warehouse: 300 new rows since 2020-02-29 (+12.7%)",
                "as_of": LATER,
                "model": "toy",
                "model_version": "1",
            }
        ]
        assert found.summary.endswith("Jenkins was asked for a training: model/main")

    def test_the_same_rows_are_one_ping_and_more_rows_are_another(self, champion: Pipeline) -> None:
        insert(new(300))
        with jenkins() as there:
            verdicts = [look(champion, there.url).verdict for _ in range(2)]
            insert(late(10))
            verdicts.append(look(champion, there.url).verdict)
            insert(late(230))
            verdicts.append(look(champion, there.url).verdict)
        assert verdicts == ["enough", "asked for", "not enough", "enough"]
        assert [one["reason"].partition("%)")[2] for one in there.pings] == ["", ", 240 late"]

    def test_rows_that_were_asked_for_are_not_old_any_more(self, champion: Pipeline) -> None:
        change("min_new_share: 0.1", "min_new_share: 0.1, max_age: 5")
        insert(new(300))
        with jenkins() as there:
            look(champion, there.url)
            insert(late(1))
            assert look(champion, there.url, as_of="2020-03-25").verdict == "not enough"
            insert(new(301).tail(1))
            assert look(champion, there.url).verdict == "not enough"
            assert look(champion, there.url, as_of="2020-03-25").verdict == "enough"
        assert len(there.pings) == 2

    def test_two_checks_at_the_same_time_are_one_ping(self, champion: Pipeline) -> None:
        insert(new(300))
        with jenkins() as there:
            checks = [threading.Thread(target=look, args=(champion, there.url)) for _ in range(2)]
            for one in checks:
                one.start()
            for one in checks:
                one.join()
        assert len(there.pings) == 1

    def test_a_check_that_was_killed_while_it_asked_is_no_hindrance_for_long(self, champion: Pipeline) -> None:
        insert(new(300))
        killed = Asked(claimed=datetime.now().astimezone())
        killed.write(champion.client, the(champion))
        with jenkins() as there:
            assert "another check is asking" in look(champion, there.url).summary
            killed.model_copy(update={"claimed": killed.claimed - asked.CLAIM}).write(champion.client, the(champion))
            look(champion, there.url)
        assert len(there.pings) == 1

    def test_what_did_not_arrive_is_sent_at_the_next_check(self, champion: Pipeline) -> None:
        insert(new(300))
        with jenkins(busy=4) as there:
            found = look(champion, there.url)
            assert found.asking
            assert "cannot be reached" in str(found.asking.error)
            look(champion, there.url)
        assert len(there.pings) == 1

    def test_without_a_jenkins_the_ping_is_shown_and_not_remembered(self, champion: Pipeline) -> None:
        insert(new(300))
        for _ in range(2):
            found = look(champion)
            assert found.asking
            assert "POST $JENKINS_URL/generic-webhook-trigger/invoke" in str(found.asking.preview)
        assert Asked.tag not in the(champion).tags

    def test_without_a_date_none_is_sent(self, champion: Pipeline) -> None:
        change("label_delay_days: 1", "label_delay_days: 1\n  clock: 2020-03-11")
        insert(new(300))
        found = look(champion, as_of="")
        assert found.asking
        assert found.asking.ping.as_of is None

    @pytest.mark.parametrize(
        ("connection", "rows", "message"),
        [
            ("", None, ""),
            ("", 7, ""),
            ("flights", None, "Airbyte synced flights"),
            ("flights", 1400, "Airbyte synced 1,400 rows of flights"),
        ],
    )
    def test_nobody_is_named_who_is_not_known(self, connection: str, rows: int | None, message: str) -> None:
        assert check.synced(connection, rows) == message


class TestBadInput:
    def test_no_champion(self, champion: Pipeline) -> None:
        champion.client.delete_registered_model_alias("toy", model_versions.CHAMPION)
        try:
            found = look(champion)
        finally:
            champion.client.set_registered_model_alias("toy", model_versions.CHAMPION, "1")
        assert found.message == "toy has no champion: the first training is not asked for by new data"
        assert (found.verdict, found.asking) == ("cannot tell", None)

    def test_a_champion_from_before_there_were_watermarks(
        self, champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kept, "FILE", "nowhere.json")
        assert "no watermark is kept with version 1" in look(champion).message

    def test_a_watermark_of_another_make(self, champion: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kept, "FILE", "snapshot.json")
        with pytest.raises(UserError, match="the watermark of version 1 is of another make"):
            look(champion)

    def test_a_moment_before_the_champions(self, champion: Pipeline) -> None:
        found = look(champion, as_of="2020-02-20")
        assert found.message == "AS_OF=2020-02-20 lies before the champion's: its rows end with 29 February 2020"

    def test_a_moment_in_the_future(self, champion: Pipeline) -> None:
        insert(new(300))
        assert "lies in the future: is a clock wrong?" in look(champion, as_of="2199-01-01").summary

    def test_rows_of_the_future_do_not_count(self, champion: Pipeline) -> None:
        insert(new(300).assign(seen=datetime(2199, 1, 1)))
        assert look(champion).verdict == "nothing new"

    def test_rows_without_a_time(self, champion: Pipeline) -> None:
        change("seen < $until", "seen < $until OR seen IS NULL")
        insert(new(300).assign(seen=pd.NaT))
        found = look(champion)
        assert "· 300 rows have no time and do not count" in found.summary
        assert found.verdict == "nothing new"

    def test_an_empty_table(self, champion: Pipeline) -> None:
        run("DELETE FROM events")
        found = look(champion)
        assert found.verdict == "nothing new"
        assert "2,360 rows that the champion has learnt from are gone" in found.summary

    def test_a_table_that_is_gone(self, champion: Pipeline) -> None:
        run("DROP TABLE events")
        with pytest.raises(UserError, match="the warehouse rejects the query: .*events"):
            look(champion)

    def test_a_query_that_has_changed_since_tells_new_rows_only(self, champion: Pipeline) -> None:
        change("seen < $until", "seen < $until AND x < 1")
        insert(new(300))
        found = look(champion)
        assert "late and corrected rows are not told" in found.summary
        assert found.news
        assert (found.news.corrected, found.news.gone) == (0, 0)
        assert 0 < found.news.new < 300

    def test_a_column_that_has_disappeared(self, champion: Pipeline) -> None:
        change("SELECT id, seen, shade, x, y, late", "SELECT *")
        run("ALTER TABLE events DROP COLUMN y")
        with pytest.raises(UserError, match="the query does not return «y»"):
            look(champion)

    def test_a_column_of_another_type(self, champion: Pipeline) -> None:
        run("ALTER TABLE events ALTER x TYPE VARCHAR")
        with pytest.raises(UserError, match="«x» is of type string, not a number"):
            look(champion)

    def test_numbers_without_end_and_without_sense(self, champion: Pipeline) -> None:
        run("UPDATE events SET x = 'inf' WHERE id = 2007")
        run("UPDATE events SET y = 'nan' WHERE y IS NULL")
        assert "1 corrected day;" in look(champion).message

    def test_what_was_remembered_and_cannot_be_read_is_forgotten(self, champion: Pipeline) -> None:
        champion.client.set_model_version_tag("toy", "1", Asked.tag, "{")
        insert(new(300))
        with jenkins() as there:
            look(champion, there.url)
        assert len(there.pings) == 1


def test_a_snapshot_is_counted_as_the_warehouse_is(champion: Pipeline) -> None:
    watermark = kept.kept(champion.client, the(champion))
    assert watermark
    assert (watermark.rows, len(watermark.days)) == (2360, 59)
    given = load_settings("toy")
    now: Counted = counted(ibis.duckdb.connect(WAREHOUSE, read_only=True).table("events"), given.data, watermark.until)
    assert now.before == watermark.days
