"""Rows whose target is null end the run, or are left out with a count, whoever reads them."""

from __future__ import annotations

import logging

import pytest

from continuous_training.data import sources
from continuous_training.errors import UserError
from continuous_training.monitoring.new_data.row_counts import count_rows
from continuous_training.monitoring.new_data.watermark import compute_watermark, hash_query
from continuous_training.settings import load_settings
from pipeline import Pipeline
from toy import change, events, store


def store_nulls(every: int = 10) -> None:
    """Store events without a target among the others."""
    rows = events()
    rows["late"] = rows["late"].astype("boolean").mask(rows["id"] % every == 0)
    store(rows)


def drop() -> None:
    change("  target: late", "  target: late\n  null_target: drop")


@pytest.mark.usefixtures("workspace")
def test_they_end_the_run_with_their_number_and_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    store_nulls()
    (failed,) = [check for check in Pipeline(monkeypatch, AS_OF="2020-02-29").check_data() if not check.passed]
    assert failed.column == "late"
    assert failed.message == (
        "is null in 10.0% of the training rows and 10.0% of the fresh ones; null_target: drop leaves out these 232 rows"
    )


@pytest.mark.usefixtures("workspace")
def test_a_target_that_may_be_null_is_a_mistake_in_training_yaml() -> None:
    change("late: {type: boolean, feature: false}", "late: {type: boolean, feature: false, max_null_share: 0.1}")
    with pytest.raises(UserError, match=r"columns.late.max_null_share: the target 'late' cannot be null: null_target"):
        load_settings("toy")


@pytest.mark.usefixtures("mlflow_workspace")
def test_the_rows_that_are_left_out_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store_nulls()
    drop()
    pipeline = Pipeline(monkeypatch)
    with caplog.at_level(logging.INFO):
        pipeline.compare()
    assert "236 rows are left out: their target is null" in caplog.text
    assert pipeline.snapshot.without_target == 236
    assert pipeline.snapshot.rows == 9 * 236
    assert pipeline.verdict.fresh_rows == pipeline.snapshot.fresh.rows == 504


@pytest.mark.usefixtures("workspace")
def test_a_snapshot_without_any_target_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    store_nulls(every=1)
    drop()
    with pytest.raises(UserError, match="the target 'late' is null in all 2,360 rows"):
        Pipeline(monkeypatch).take_snapshot()


@pytest.mark.usefixtures("workspace")
def test_they_are_no_new_data_until_their_target_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    store_nulls()
    before = hash_query(load_settings("toy").data)
    drop()
    pipeline = Pipeline(monkeypatch)
    snapshot, data = pipeline.take_snapshot(), pipeline.settings.data
    assert hash_query(data) != before
    watermark = compute_watermark(snapshot, data)
    with sources.open_source(pipeline.settings) as source:
        assert count_rows(source.table(snapshot.since, snapshot.until), data, snapshot.until).before == watermark.days
    store(events())
    with sources.open_source(pipeline.settings) as source:
        days = count_rows(source.table(snapshot.since, snapshot.until), data, snapshot.until).before
    assert sum(day.rows for day in days.values()) == watermark.rows + 236
