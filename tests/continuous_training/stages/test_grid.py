"""A grid of parameters: the trial with the best validation score becomes the candidate."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from conftest import ROOT, TIMEOUT
from continuous_training.compute import local
from continuous_training.errors import UserError
from continuous_training.registry import runs
from continuous_training.settings import Model, load_settings
from continuous_training.stages import fit, train
from forked_python import ForkedPython
from pipeline import Pipeline
from stored_versions import load_estimator
from toy import change, events, store

if TYPE_CHECKING:
    from mlflow.entities import Run as TrackedRun

    from continuous_training.compute import Trial
    from continuous_training.documents import Run, Snapshot

MODEL = Path("src/toy/model.py")

# As of 1 March the training rows end on 15 February; the fresh rows are the fourteen days after it.
VALIDATION_SINCE, FRESH_SINCE = pd.Timestamp("2020-02-01"), pd.Timestamp("2020-02-15")


def set_grid(grid: str) -> None:
    """Set the grid of the toy model."""
    change("parameters: {C: 1.0}", f"parameters: {{C: 1.0}}\n  grid: {grid}")


def use_one_number() -> None:
    """Add a parameter to the toy model: the only number that it uses."""
    change("numbers, **parameters", "numbers, number, **parameters", MODEL)
    change("numbers)\n", "[number])\n", MODEL)


def tracked_runs(pipeline: Pipeline) -> list[TrackedRun]:
    """Return all MLflow runs."""
    return list(pipeline.client.search_runs([runs.experiment_id(pipeline.client, "toy")]))


def runs_by_name(pipeline: Pipeline) -> dict[str, TrackedRun]:
    return {run.info.run_name: run for run in tracked_runs(pipeline)}


def statuses(pipeline: Pipeline) -> list[str]:
    return sorted(run.info.status for run in tracked_runs(pipeline))


@pytest.mark.usefixtures("mlflow_workspace")
class TestCandidate:
    def test_the_candidate_is_the_best_in_validation_not_on_the_fresh_rows(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_one_number()
        set_grid("{number: [y, x]}")
        rows = events()
        rows["late"] = rows["x"] > 0
        fresh = rows["seen"] >= FRESH_SINCE
        rows.loc[fresh, "late"] = rows["y"] > 0
        rows.loc[~fresh & (rows["y"] > 1), "late"] = True
        store(rows)
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        pipeline.compare()
        by_y, by_x = runs_by_name(pipeline)["ct-7-1"], runs_by_name(pipeline)["ct-7-2"]
        assert by_x.data.metrics["validation_roc_auc"] > by_y.data.metrics["validation_roc_auc"]
        assert by_x.data.metrics["roc_auc"] < by_y.data.metrics["roc_auc"]
        assert pipeline.candidate.run_id == by_x.info.run_id
        assert "ct.verdict" in by_x.data.tags
        assert "ct.verdict" not in by_y.data.tags

    def test_all_trials_are_in_mlflow_with_their_parameters_and_scores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_grid("{C: [1.0e-9, 0.5], max_iter: [100, 200]}")
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        candidate = pipeline.train()
        trials = runs_by_name(pipeline)
        assert {name: (run.data.params["C"], run.data.params["max_iter"]) for name, run in trials.items()} == {
            "ct-7-1": ("1e-09", "100"),
            "ct-7-2": ("1e-09", "200"),
            "ct-7-3": ("0.5", "100"),
            "ct-7-4": ("0.5", "200"),
        }
        assert candidate.trials is not None
        assert (candidate.trials.complete, len(candidate.trials.best)) == (4, 4)
        assert candidate.trials.best[0].score == candidate.metrics["validation_roc_auc"]
        for run in trials.values():
            assert run.info.status == "FINISHED"
            assert 0.5 < run.data.metrics["validation_roc_auc"] < 1
            assert run.data.tags[runs.TRIAL_OF] == candidate.fingerprint
            assert run.data.tags["ct.snapshot"] == pipeline.snapshot.hash
            assert (runs.FINGERPRINT in run.data.tags) == (run.info.run_id == candidate.run_id)

    def test_the_first_of_equal_trials_is_the_candidate_and_all_scores_are_logged(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        set_grid("{max_iter: [200, 300]}")
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        with caplog.at_level(logging.INFO, logger=train.__name__):
            candidate = pipeline.train()
        assert candidate.run_id == runs_by_name(pipeline)["ct-7-1"].info.run_id
        score = f"{candidate.metrics['validation_roc_auc']:.4f}"
        assert caplog.messages == [
            f"Trial 1 of 2: validation roc_auc {score} with max_iter=200",
            f"Trial 2 of 2: validation roc_auc {score} with max_iter=300",
            "Trial 1 is the candidate",
        ]

    def test_the_next_run_uses_the_best_trial_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_grid("{C: [1.0e-9, 0.5]}")
        first = Pipeline(monkeypatch).train()
        again = Pipeline(monkeypatch)
        assert again.train().run_id == first.run_id
        assert len(runs_by_name(again)) == 2

    def test_there_is_no_validation_without_a_grid(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        candidate = pipeline.train()
        run = runs_by_name(pipeline)["ct-7"]
        assert len(runs_by_name(pipeline)) == 1
        assert run.data.tags[runs.FINGERPRINT] == candidate.fingerprint
        assert runs.TRIAL_OF not in run.data.tags
        assert not [name for name in candidate.metrics if name.startswith("validation")]


@pytest.mark.usefixtures("mlflow_workspace")
class TestValidation:
    def test_validation_fits_on_the_rows_before_the_last_days_and_scores_on_those(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_grid("{C: [0.01]}")
        candidate = Pipeline(monkeypatch).train()
        rows = events()
        before = rows[rows["seen"] < VALIDATION_SINCE]
        last = rows[(rows["seen"] >= VALIDATION_SINCE) & (rows["seen"] < FRESH_SINCE)]
        assert candidate.metrics["validation_roc_auc"] == pytest.approx(self.roc_auc(before, last), abs=1e-9)
        assert self.roc_auc(before, last) != self.roc_auc(pd.concat([before, last]), last)

    def test_the_candidate_is_trained_on_all_training_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_grid("{C: [0.01]}")
        candidate = Pipeline(monkeypatch).train()
        model = load_estimator(candidate.model_uri)
        rows = events()
        expected = self.fit_model(rows[rows["seen"] < FRESH_SINCE])
        features = rows[["shade", "x", "y"]]
        assert model.predict_proba(features) == pytest.approx(expected.predict_proba(features))

    @pytest.mark.parametrize(
        ("since", "until", "where"),
        [
            ("2020-01-01", VALIDATION_SINCE, "before the last 14 days"),
            (VALIDATION_SINCE, FRESH_SINCE, "on the last 14 days"),
        ],
    )
    def test_validation_rows_of_a_single_class_are_an_error(
        self, monkeypatch: pytest.MonkeyPatch, since: object, until: object, where: str
    ) -> None:
        set_grid("{C: [0.01, 1.0]}")
        rows = events()
        rows.loc[(rows["seen"] >= since) & (rows["seen"] < until), "late"] = False
        store(rows)
        pipeline = Pipeline(monkeypatch)
        with pytest.raises(UserError, match=f"model.grid: all rows have the same class {where}"):
            pipeline.train()
        assert "RUNNING" not in statuses(pipeline)

    def test_a_training_window_without_older_rows_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_grid("{C: [0.01, 1.0]}")
        change("train_days: 60", "train_days: 14")
        with pytest.raises(
            UserError, match="model.grid: the newest 14 days validate, and train_days is 14: none is left"
        ):
            Pipeline(monkeypatch)

    @staticmethod
    def fit_model(rows: pd.DataFrame) -> Any:
        from toy.model import build  # type: ignore[import-not-found]

        return build(["shade"], ["x", "y"], C=0.01).fit(rows[["shade", "x", "y"]], rows["late"])

    def roc_auc(self, before: pd.DataFrame, last: pd.DataFrame) -> float:
        probability = self.fit_model(before).predict_proba(last[["shade", "x", "y"]])[:, 1]
        return float(roc_auc_score(last["late"], probability))


@pytest.mark.usefixtures("mlflow_workspace")
class TestFailure:
    @pytest.mark.parametrize("how", ["interrupted", "killed with -9"])
    def test_an_interrupted_grid_is_repeated_and_leaves_no_open_mlflow_runs(
        self, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        set_grid("{C: [1.0e-9, 0.5]}")
        first = Pipeline(monkeypatch)

        def fit_one_and_interrupt(run: Run, snapshot: Snapshot, trials: list[Trial]) -> None:
            first._fit(run, snapshot, trials[:1])
            raise KeyboardInterrupt

        monkeypatch.setitem(train.COMPUTE, "local", fit_one_and_interrupt)
        if how == "killed with -9":
            monkeypatch.setattr(train, "_close_runs", lambda *_: None)  # a killed process closes no runs
        with pytest.raises(KeyboardInterrupt):
            first.train()
        assert statuses(first) == ["FINISHED", "KILLED" if how == "interrupted" else "RUNNING"]
        again = Pipeline(monkeypatch)
        again.train()
        assert again.plan.resumed_run_id is None
        assert statuses(again) == ["FINISHED", "FINISHED", "FINISHED", "KILLED"]

    @pytest.mark.integration(seconds=45)
    def test_parameters_pass_unchanged_through_mlproject_and_the_error_names_an_invalid_one(
        self, monkeypatch: pytest.MonkeyPatch, mlflow_workspace: Path, forked_python: ForkedPython
    ) -> None:
        hostile = """it's "quoted" {C} $HOME `id` \\ & ü; #"""
        change("numbers, **parameters", "numbers, note, **parameters", MODEL)
        set_grid(json.dumps({"note": [hostile], "C": [0.5, -1.0, 2.0]}))
        shutil.copy(ROOT / "MLproject", mlflow_workspace)
        shutil.copytree(ROOT / "scripts", mlflow_workspace / "scripts")
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7", PYTHONPATH=str(mlflow_workspace / "src"))
        monkeypatch.setenv("PATH", os.environ["PATH"])  # restored after the test, because training changes it
        monkeypatch.setattr(sys, "executable", str(forked_python.python))  # the entry point's Python is beside it
        monkeypatch.setitem(train.COMPUTE, "local", local.train)
        with pytest.raises(UserError, match=r"the training failed with note=.* C=-1\.0: .*cannot be fitted: .*'C'"):
            pipeline.train()
        trials = runs_by_name(pipeline)
        assert trials["ct-7-1"].data.params["note"] == hostile
        assert 50 < trials["ct-7-1"].data.metrics["peak_memory_mb"] < 5000
        assert {name: run.info.status for name, run in trials.items()} == {
            "ct-7-1": "FINISHED",
            "ct-7-2": "FAILED",
            "ct-7-3": "KILLED",
        }

    @pytest.mark.parametrize("parameters", ["[1]", "C=1", '"C"'])
    def test_parameters_other_than_a_json_object_are_rejected(self, parameters: str) -> None:
        command = [sys.executable, ROOT / "scripts/fit.py", "--snapshot", ".", "--parameters", parameters]
        process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        assert process.returncode == 2
        assert f"argument --parameters: {parameters} is not" in process.stderr

    def test_parameters_of_the_command_override_training_yaml(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pipeline = Pipeline(monkeypatch)
        run_id = fit.fit("toy", pipeline.take_snapshot().train.path.parent, {"C": 0.25})
        assert pipeline.client.get_run(run_id).data.params["C"] == "0.25"


@pytest.mark.usefixtures("workspace")
class TestGrid:
    @pytest.mark.parametrize(
        ("grid", "message"),
        [
            ("{C: []}", "model.grid.C: must have at least 1 item"),
            ("{C: 1.0}", "model.grid.C: must be a list"),
            ("{day: [2020-01-01]}", "model.grid.day.0: input was not a valid JSON value"),
        ],
    )
    def test_an_invalid_grid_is_rejected(self, grid: str, message: str) -> None:
        set_grid(grid)
        with pytest.raises(UserError, match=message):
            load_settings("toy")


@given(
    st.dictionaries(
        st.text(min_size=1), st.lists(st.integers() | st.text(), min_size=1, max_size=4, unique=True), max_size=4
    )
)
def test_the_trials_are_all_combinations_without_duplicates(grid: dict[str, list[Any]]) -> None:
    trials = Model(task="regression", grid=grid).trials
    assert len({json.dumps(trial) for trial in trials}) == len(trials) == math.prod(map(len, grid.values()))
    assert all(trial.keys() == grid.keys() for trial in trials)
    assert all(value in grid[name] for trial in trials for name, value in trial.items())
