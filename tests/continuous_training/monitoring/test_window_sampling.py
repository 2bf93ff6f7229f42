"""Windows of many rows: samples and counts that DuckDB computes from the log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
import yaml

import wide_model
from continuous_training.monitoring import distances, predictions_log
from continuous_training.monitoring.reference import ReferenceProfile
from continuous_training.monitoring.window import Window
from continuous_training.settings import Settings

ROWS, SAMPLE = 20_000, 1000
SETTINGS = Settings.model_validate(yaml.safe_load(wide_model.TRAINING))
PROFILE = ReferenceProfile(
    rows=ROWS,
    since=wide_model.SINCE,
    until=wide_model.SINCE,
    window_days=7,
    columns={},
    predictions={},
    classes=[False, True],
    baseline=None,
)


@pytest.fixture
def window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    """Read the requests to version 1 in the last week from its log."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CT_PREDICTIONS", str(tmp_path / "predictions"))
    wide_model.write_log(tmp_path / "predictions", ROWS, "1", {"place": 0.2})
    now = datetime.now(UTC)
    with predictions_log.open_log(wide_model.MODEL, now - timedelta(days=7)) as log:
        requests = log.read_window(SETTINGS, "1", PROFILE, now)
        assert requests is not None
        yield requests


def test_a_sample_has_the_requested_size_and_is_deterministic(window: Window) -> None:
    first, second = window.sample(SAMPLE), window.sample(SAMPLE)
    assert len(first) == SAMPLE
    assert first.equals(second)


@pytest.mark.parametrize("name", ["normal_1", "waiting_1", "gaps", "place", "customer"])
def test_a_sample_has_the_distribution_of_all_rows(window: Window, name: str) -> None:
    values = window.table.select(name).to_pyarrow().to_pandas()[name]
    test: distances.DriftTest = "jensenshannon" if name in wide_model.CATEGORIES else "wasserstein"
    noise = distances.sampling_noise(test, values, SAMPLE)
    assert distances.distance(test, values, window.sample(SAMPLE)[name]) <= 1.5 * noise


def test_rows_with_unknown_values_are_counted_in_the_whole_window(window: Window) -> None:
    values = window.table.select("place").to_pyarrow().to_pandas()["place"]
    known = ["v0", "v1", "v7"]
    assert window.count_unknown("place", known) == len(values) - values.isin(known).sum()
    assert window.count_unknown("place", sorted(values.unique())) == 0


def test_the_distance_of_a_known_drift_is_measured() -> None:
    drift = {"normal_1": 0.3, "two_humps_1": 0.3, "kind": 0.3, "customer": 0.3}
    before, after = (
        duckdb.sql(wide_model.rows_query(ROWS, seed, distances_by_column)).df()
        for seed, distances_by_column in [(0, None), (1, drift)]
    )
    for name in drift:
        test: distances.DriftTest = "jensenshannon" if name in wide_model.CATEGORIES else "wasserstein"
        assert distances.distance(test, before[name], after[name]) == pytest.approx(0.3, abs=0.03)
