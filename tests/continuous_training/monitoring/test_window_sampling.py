"""Windows of many rows: samples that are drawn and values that are counted where the rows lie."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
import yaml

import wide
from continuous_training.monitoring import distances, log, profile
from continuous_training.monitoring.asked import Asked
from continuous_training.monitoring.reference import Learnt
from continuous_training.settings import Settings

ROWS, SAMPLE = 20_000, 1000
GIVEN = Settings.model_validate(yaml.safe_load(wide.TRAINING))
LEARNT = Learnt(
    rows=ROWS,
    since=wide.SINCE,
    until=wide.SINCE,
    window_days=7,
    columns={},
    prediction=profile.Profile(test="wasserstein", null_share=0, distances=[]),
    classes=[False, True],
    measured=None,
)


@pytest.fixture
def window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """What version 1 was asked in the last week, as its log has it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CT_PREDICTIONS", str(tmp_path / "predictions"))
    wide.log(tmp_path / "predictions", ROWS, "1", {"place": 0.2})
    now = datetime.now(UTC)
    with log.opened(wide.MODEL, now - timedelta(days=7)) as opened:
        found = opened.asked(GIVEN, "1", LEARNT, now)
        assert found is not None
        yield found


def test_a_sample_of_many_rows_is_of_the_size_that_was_asked_for_and_the_same_again(window: Asked) -> None:
    first, again = window.sample(SAMPLE), window.sample(SAMPLE)
    assert len(first) == SAMPLE
    assert first.equals(again)


@pytest.mark.parametrize("name", ["normal_1", "waiting_1", "gaps", "place", "customer"])
def test_a_sample_of_many_rows_is_like_them(window: Asked, name: str) -> None:
    every = window.table.select(name).to_pyarrow().to_pandas()[name]
    test: distances.Test = "jensenshannon" if name in wide.CATEGORIES else "wasserstein"
    chance = distances.by_chance(test, every, SAMPLE)
    assert distances.between(test, every, window.sample(SAMPLE)[name]) <= 1.5 * chance


def test_rows_with_values_that_are_not_known_are_counted_among_all_rows(window: Asked) -> None:
    values = window.table.select("place").to_pyarrow().to_pandas()["place"]
    known = ["v0", "v1", "v7"]
    assert window.others("place", known) == len(values) - values.isin(known).sum()
    assert window.others("place", sorted(values.unique())) == 0


def test_a_known_drift_is_measured_as_it_is_known() -> None:
    moved = {"normal_1": 0.3, "two_humps_1": 0.3, "kind": 0.3, "customer": 0.3}
    before, now = (duckdb.sql(wide.rows(ROWS, seed, how)).df() for seed, how in [(0, None), (1, moved)])
    for name in moved:
        test: distances.Test = "jensenshannon" if name in wide.CATEGORIES else "wasserstein"
        assert distances.between(test, before[name], now[name]) == pytest.approx(0.3, abs=0.03)
