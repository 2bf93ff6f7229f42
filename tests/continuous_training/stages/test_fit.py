"""The fit of a run: validation rows, weights, and metrics over time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from continuous_training.data.snapshots import read_snapshot
from continuous_training.errors import UserError
from continuous_training.registry import connection, runs
from continuous_training.settings import load_settings
from continuous_training.training import fit_history
from continuous_training.training.estimators import validate
from continuous_training.training.fit_history import FitHistory, is_stored
from continuous_training.training.validation import split_newest
from pipeline import Pipeline
from toy import change, events, import_again, store

BOOSTING = """
from lightgbm import LGBMClassifier
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def build(categories, numbers, **parameters):
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), categories), ("passthrough", numbers))
    return make_pipeline(columns, LGBMClassifier(verbose=-1, **parameters))
"""
PARAMETERS = "{n_estimators: 200, early_stopping_round: 5}"


def use_boosting(monkeypatch: pytest.MonkeyPatch, parameters: str = PARAMETERS, more: str = "") -> None:
    pytest.importorskip("lightgbm", reason="lightgbm is not installed: scripts/ct test installs it")
    Path("src/toy/model.py").write_text(BOOSTING)
    change("parameters: {C: 1.0}", f"parameters: {parameters}{more}")
    import_again(monkeypatch)


def add_weights(weights: Any) -> None:
    """Add a column of weights to the warehouse and to training.yaml."""
    store(events().assign(price=weights))
    change("x, y, late", "x, y, price, late")
    change("  key: [id]", "  key: [id]\n  weight: price")
    change("    shade:", "    price: {type: number, feature: false, max_null_share: 1}\n    shade:")


@pytest.mark.usefixtures("mlflow_workspace")
class TestRun:
    def test_the_newest_training_days_stop_the_fit_and_mlflow_has_the_losses_over_time(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        use_boosting(monkeypatch, more="\n  validation_days: 7")
        pipeline = Pipeline(monkeypatch)
        with caplog.at_level(logging.INFO):
            candidate = pipeline.train()
        assert "280 rows of the last 7 days stop the fit early" in caplog.messages
        assert "Fitting Pipeline on 1,520 rows of 3 features" in caplog.messages
        losses = pipeline.client.get_metric_history(candidate.run_id, "validation/binary_logloss")
        assert [metric.step for metric in losses] == list(range(1, len(losses) + 1))
        assert len(losses) < 200
        assert candidate.metrics["steps"] == len(losses) - 5 == np.argmin([metric.value for metric in losses]) + 1
        assert len(pipeline.client.get_metric_history(candidate.run_id, "training/binary_logloss")) == len(losses)
        assert f"; the model is that of step {len(losses) - 5}" in caplog.text

    def test_a_trial_of_a_grid_is_judged_on_rows_that_stopped_no_fit(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        use_boosting(monkeypatch, more="\n  validation_days: 7\n  grid: {num_leaves: [4]}")
        pipeline = Pipeline(monkeypatch)
        rows = read_snapshot(pipeline.take_snapshot().train.path, pipeline.settings.data)
        with caplog.at_level(logging.INFO):
            validate("toy", rows, pipeline.settings, {"num_leaves": 4}, lambda *_: None)
        assert [message for message in caplog.messages if message.startswith(("Fitting", "Validating on"))] == [
            "Validating on 560 rows after fitting on 1,240",
            "Fitting Pipeline on 960 rows of 3 features",
        ]

    def test_rows_without_weight_have_no_influence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = events()
        add_weights(np.where(rows["x"] > 0, 0.0, 2.0))
        use_boosting(monkeypatch, "{n_estimators: 5}")
        candidate = Pipeline(monkeypatch).train()
        store(rows.assign(price=np.where(rows["x"] > 0, 0.0, 2.0), late=rows["late"] & (rows["x"] < 0)))
        changed = Pipeline(monkeypatch, FORCE="true").train()
        assert candidate.run_id != changed.run_id
        history = [
            [metric.value for metric in connection.open_client().get_metric_history(run, "training/binary_logloss")]
            for run in (candidate.run_id, changed.run_id)
        ]
        assert history[0] == history[1]

    def test_a_change_of_the_weight_or_of_the_validation_days_is_another_fingerprint(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_weights(1.0)
        fingerprints = [Pipeline(monkeypatch).make_plan().fingerprint]
        change("parameters: {C: 1.0}", "parameters: {C: 1.0}\n  validation_days: 7")
        fingerprints.append(Pipeline(monkeypatch).make_plan().fingerprint)
        change("  weight: price\n", "")
        fingerprints.append(Pipeline(monkeypatch).make_plan().fingerprint)
        assert len(set(fingerprints)) == 3


@pytest.mark.usefixtures("workspace")
class TestWeights:
    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ({3: None, 4: np.nan}, "is null in 2 rows"),
            ({3: -1.0}, "is negative in 1 rows"),
            ({3: -1.0, 5: None}, "is null in 1 rows; is negative in 1 rows"),
            (dict.fromkeys(range(3600), 0.0), "is not positive in any training row"),
            ({3: 0.0}, "no weight is null or negative"),
        ],
    )
    def test_weights_are_checked(
        self, weights: dict[int, float | None], message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_weights([weights.get(row, 1.5) for row in range(3600)])
        (check,) = [
            check for check in Pipeline(monkeypatch, AS_OF="2020-02-29").check_data() if check.name == "weights"
        ]
        assert check.message == message
        assert check.passed == (message == "no weight is null or negative")

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("weight: price", "weight: prise", "data.weight: the weight column 'prise' is not among the columns"),
            ("type: number, feature: false", "type: category, feature: false", "must be of type number or integer"),
            ("type: number, feature: false, max", "type: number, max", "the weight 'price' must have feature: false"),
        ],
    )
    def test_a_weight_that_is_none_is_a_mistake_in_training_yaml(self, old: str, new: str, message: str) -> None:
        add_weights(1.0)
        change(old, new)
        with pytest.raises(UserError, match=message):
            load_settings("toy")


@pytest.mark.usefixtures("workspace")
class TestSplit:
    @pytest.mark.parametrize(
        ("since", "until", "label", "message"),
        [
            (0, 50, True, "all rows have the same class before the last 10 days of the training rows; increase data"),
            (50, 60, True, "all rows have the same class on the last 10 days of the training rows; increase data"),
            (50, 51, "early", "the last 10 days of the training rows have the class early, which no row before has"),
        ],
    )
    def test_rows_that_cannot_validate_are_an_error(self, since: int, until: int, label: object, message: str) -> None:
        rows = events(days=60)
        rows["late"] = rows["late"].astype(object)
        day = (rows["seen"] - rows["seen"].min()).dt.days
        rows.loc[(day >= since) & (day < until), "late"] = label
        with pytest.raises(UserError, match=f"^model.validation_days: {message}"):
            split_newest(rows, 10, "model.validation_days", load_settings("toy"))

    def test_there_must_be_rows_before_them(self) -> None:
        with pytest.raises(UserError, match="there are no rows before the last 90 days of the training rows"):
            split_newest(events(days=60), 90, "model.validation_days", load_settings("toy"))

    def test_the_parts_are_disjoint_in_time(self) -> None:
        rows = events(days=60)
        before, last = split_newest(rows, 10, "model.validation_days", load_settings("toy"))
        assert before["seen"].max() < last["seen"].min() == pd.Timestamp("2020-02-20")
        assert len(before) + len(last) == len(rows)


@pytest.mark.usefixtures("mlflow_workspace")
class TestHistory:
    @pytest.fixture
    def run_id(self) -> str:
        client = connection.open_client()
        return str(client.create_run(runs.experiment_id(client, "toy")).info.run_id)

    def test_the_log_has_a_line_every_few_seconds(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        now = 0.0
        monkeypatch.setattr(fit_history.time, "monotonic", lambda: now)
        history = FitHistory(connection.open_client(), None)
        with caplog.at_level(logging.INFO):
            for step in range(1, 31):
                now += 0.25
                history.report(step, {"training/loss": 1 / step})
            history.close(28)
        assert caplog.messages == [
            "Step 8: training/loss 0.125",
            "Step 16: training/loss 0.0625",
            "Step 24: training/loss 0.04167",
            "30 steps: training/loss 0.03333; the model is that of step 28",
        ]

    def test_mlflow_has_the_metrics_while_the_fit_goes_on(self, monkeypatch: pytest.MonkeyPatch, run_id: str) -> None:
        now = 0.0
        monkeypatch.setattr(fit_history.time, "monotonic", lambda: now)
        client = connection.open_client()
        history = FitHistory(client, run_id)
        for step in range(1, 12):
            now += 1
            history.report(step, {"training/ndcg@5": step, "validation/loss": float("nan")})
        assert [metric.step for metric in client.get_metric_history(run_id, "training/ndcg_5")] == list(range(1, 11))
        assert client.get_metric_history(run_id, "validation/loss") == []

    def test_a_long_fit_has_fewer_values_the_later_they_are(self, run_id: str) -> None:
        history = FitHistory(connection.open_client(), run_id)
        for step in range(1, 1106):
            history.report(step, {"training/loss": 1.0})
        history.close(None)
        stored = [each.step for each in connection.open_client().get_metric_history(run_id, "training/loss")]
        assert stored == [*range(1, 1001), *range(1010, 1101, 10), 1105]
        assert sum(map(is_stored, range(1, 100_001))) == 2800
