"""A run with `model.batches`: the training rows are read in batches, and everything after Train is as usual."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from continuous_training.comparison import evaluation
from continuous_training.data.row_groups import RowGroups
from continuous_training.data.snapshots import nullable_columns, read_snapshot
from continuous_training.errors import UserError
from continuous_training.settings import load_settings
from continuous_training.stages import snapshot
from continuous_training.training import file_fit
from framework_models import TORCH
from pipeline import Pipeline
from toy import change, import_again

pytest.importorskip("lightgbm", reason="lightgbm is not installed: scripts/ct test installs it")

BOOSTING = """
from lightgbm import LGBMClassifier
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder


def build(categories, numbers, **parameters):
    columns = make_column_transformer((OrdinalEncoder(), categories), ("passthrough", numbers))
    return make_pipeline(columns, LGBMClassifier(n_estimators=20, verbose=-1, **parameters))
"""
OWN_CLASS = '''
"""A class that fits the mean x of each class, batch by batch."""

import json

import numpy as np


class Centres:
    def fit_batches(self, batches, callback):
        self.classes_ = np.unique(batches.labels)
        sums, counts = np.zeros(2), np.zeros(2)
        for step, batch in enumerate(batches, start=1):
            for place, value in enumerate(self.classes_):
                x = batch.features["x"][batch.labels.to_numpy() == value]
                sums[place] += x.sum()
                counts[place] += len(x)
            callback(step, {"training/rows": counts.sum()})
        self.centres = (sums / counts).tolist()
        return self

    def predict_proba(self, rows):
        middle = np.mean(self.centres)
        late = 1 / (1 + np.exp(-2 * (rows["x"].to_numpy() - middle)))
        return np.column_stack([1 - late, late])

    def save(self, folder):
        (folder / "centres.json").write_text(json.dumps(self.centres))

    @classmethod
    def load(cls, folder):
        centres = cls()
        centres.centres = json.loads((folder / "centres.json").read_text())
        return centres


def build(categories, numbers, **parameters):
    return Centres()
'''
EPOCHS = """
    def fit_batches(self, batches, callback):
        torch.manual_seed(0)
        self.classes_ = np.unique(batches.labels)
        self.module = self._build()
        optimizer = torch.optim.Adam(self.module.parameters(), lr=0.05)
        for epoch in range(1, 11):
            for batch in batches:
                targets = torch.tensor(np.searchsorted(self.classes_, batch.labels), device=DEVICE)
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(self.module(self._inputs(batch.features)), targets)
                loss.backward()
                optimizer.step()
            callback(epoch, {"training/loss": loss.item()})
        return self

    def save(self, folder):"""
ROWS = 1800  # of training


@pytest.fixture
def _batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set `model.batches`, with files of several row groups and a sample of a part of the rows."""
    change("parameters: {C: 1.0}", "batches: true")
    monkeypatch.setattr(snapshot, "ROW_GROUP_VALUES", 3000)  # 500 rows of 6 columns
    monkeypatch.setattr(snapshot.sources, "open_source", _in_batches(snapshot.sources.open_source))
    monkeypatch.setattr(file_fit, "SAMPLE_ROWS", 300)


def _in_batches(open_source):
    """Let a source send its rows in batches of 500, as a large warehouse does."""
    import pyarrow as pa

    def open_in_batches(settings):
        source = open_source(settings)
        read = source.read

        def read_in_batches(since, until):
            table = read(since, until).read_all()
            return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=500))

        source.read = read_in_batches
        return source

    return open_in_batches


@pytest.mark.usefixtures("mlflow_workspace", "_batches")
class TestRun:
    def test_a_booster_is_fitted_on_all_rows_and_compared(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        Path("src/toy/model.py").write_text(BOOSTING)
        import_again(monkeypatch)
        monkeypatch.setattr(evaluation, "ROWS_AT_ONCE", 100)
        run = Pipeline(monkeypatch)
        with caplog.at_level(logging.INFO):
            verdict = run.compare()
        assert verdict.decision == "promote", verdict.message
        assert f"Fitting Pipeline on {ROWS:,} rows of 3 features in 4 batches" in caplog.messages
        assert "Fitting the steps before LGBMClassifier on a sample of 301 rows" in caplog.messages
        assert run.candidate.metrics["train_roc_auc"] > 0.7
        inputs = {each.name: each.required for each in _signature(run)}
        assert inputs == {"shade": True, "x": True, "y": False}

    def test_a_class_with_fit_batches_reads_all_rows_batch_by_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("src/toy/model.py").write_text(OWN_CLASS)
        import_again(monkeypatch)
        run = Pipeline(monkeypatch)
        assert run.compare().decision == "promote"
        history = run.client.get_metric_history(run.candidate.run_id, "training/rows")
        assert [metric.value for metric in history][-1] == ROWS
        assert len(history) == 4

    def test_a_network_of_pytorch_reads_all_rows_in_each_epoch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("torch", reason="torch is not installed: scripts/ct test installs it")
        Path("src/toy/model.py").write_text(TORCH.replace("\n    def save(self, folder):", EPOCHS))
        change("batches: true", "batches: true\n  parameters: {hidden: 8}")
        import_again(monkeypatch)
        run = Pipeline(monkeypatch)
        assert run.compare().decision == "promote", run.verdict.message
        losses = [each.value for each in run.client.get_metric_history(run.candidate.run_id, "training/loss")]
        assert len(losses) == 10
        assert losses[-1] < losses[0]

    def test_a_class_without_fit_batches_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("src/toy/model.py").write_text(OWN_CLASS.replace("def fit_batches", "def fit"))
        import_again(monkeypatch)
        with pytest.raises(UserError, match="Centres has no method fit_batches: add it, or remove model.batches"):
            Pipeline(monkeypatch).train()

    def test_an_estimator_of_scikit_learn_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UserError, match="LogisticRegression cannot be fitted in batches"):
            Pipeline(monkeypatch).train()

    def test_row_groups_have_the_rows_of_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        taken, data = run.take_snapshot(), run.settings.data
        groups = RowGroups(taken.train.path, data)
        assert sum(groups.sizes) == ROWS
        assert len(groups.sizes) == 4
        rows = pd.concat([groups.read(number) for number in range(4)]).sort_values("id", ignore_index=True)
        pd.testing.assert_frame_equal(rows, read_snapshot(taken.train.path, data))
        sample = groups.sample(90, None)
        assert len(sample) == 90
        assert sample["seen"].dt.date.nunique() > 30
        assert nullable_columns(taken.train.path) == {"y"}

    def test_a_sample_has_every_class(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        path = run.take_snapshot().train.path
        assert RowGroups(path, run.settings.data).sample(1, "shade")["shade"].nunique() == 3


@pytest.mark.usefixtures("mlflow_workspace")
class TestSettings:
    @pytest.mark.parametrize("other", ["grid: {C: [1, 2]}", "validation_days: 7"])
    def test_batches_exclude_a_validation(self, other: str) -> None:
        change("parameters: {C: 1.0}", f"batches: true\n  {other}")
        with pytest.raises(UserError, match=f"batches and {other.partition(':')[0]} exclude each other"):
            load_settings("toy")

    def test_batches_exclude_groups(self) -> None:
        change("parameters: {C: 1.0}", "batches: true")
        change("  key: [id]", "  key: [id]\n  group: shade")
        with pytest.raises(UserError, match="rows of data.group cannot be fitted in batches"):
            load_settings("toy")


def _signature(run: Pipeline) -> list:
    import mlflow

    return mlflow.models.get_model_info(run.candidate.model_uri).signature.inputs.inputs


def test_parts_of_rows_are_predicted_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "ROWS_AT_ONCE", 3)
    rows = pd.DataFrame({"x": np.arange(10.0)})
    assert [len(part) for part in evaluation.split_rows(rows)] == [3, 3, 3, 1]
    assert [len(part) for part in evaluation.split_rows(rows[:0])] == [0]
