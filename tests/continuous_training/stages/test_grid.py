"""A grid of parameters: those with the best validation score are fitted on all training rows."""

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
from continuous_training.registry import runs, trials
from continuous_training.settings import Model, load_settings
from continuous_training.stages import fit, train
from continuous_training.training import search
from forked_python import ForkedPython
from pipeline import Pipeline
from stored_versions import load_estimator
from toy import change, events, store
from tracked_trials import find_trials, interrupt_after

if TYPE_CHECKING:
    from mlflow.entities import Run as TrackedRun

pytestmark = pytest.mark.file_seconds(40)

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
    """Return all MLflow runs, the oldest first."""
    experiment = runs.experiment_id(pipeline.client, "toy")
    return list(pipeline.client.search_runs([experiment], order_by=["attributes.start_time ASC"]))


def trials_of(pipeline: Pipeline) -> dict[str, TrackedRun]:
    """Return the MLflow runs of the trials by name."""
    return {run.info.run_name: run for run in find_trials(pipeline.client)}


def statuses(pipeline: Pipeline) -> list[str]:
    return sorted(run.info.status for run in tracked_runs(pipeline))


@pytest.mark.usefixtures("search_workspace")
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
        by_y, by_x = trials_of(pipeline)["ct-7-1"], trials_of(pipeline)["ct-7-2"]
        assert by_x.data.metrics["validation_roc_auc"] > by_y.data.metrics["validation_roc_auc"]
        candidate = pipeline.client.get_run(pipeline.candidate.run_id)
        assert candidate.data.params["number"] == "x"
        assert candidate.data.metrics["roc_auc"] < 0.6
        assert "ct.verdict" in candidate.data.tags

    def test_all_trials_are_in_mlflow_with_their_parameters_and_scores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_grid("{C: [1.0e-9, 0.5], max_iter: [100, 200]}")
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        candidate = pipeline.train()
        assert {
            name: (run.data.params["C"], run.data.params["max_iter"]) for name, run in trials_of(pipeline).items()
        } == {
            "ct-7-1": ("1e-09", "100"),
            "ct-7-2": ("1e-09", "200"),
            "ct-7-3": ("0.5", "100"),
            "ct-7-4": ("0.5", "200"),
        }
        assert candidate.trials is not None
        assert (candidate.trials.complete, len(candidate.trials.best)) == (4, 4)
        assert candidate.trials.best[0].score == candidate.metrics["validation_roc_auc"]
        for run in trials_of(pipeline).values():
            assert run.info.status == "FINISHED"
            assert 0.5 < run.data.metrics["validation_roc_auc"] < 1
            assert run.data.tags[runs.TRIAL_OF] == candidate.fingerprint
            assert run.data.tags[trials.PARENT] == candidate.run_id
            assert runs.FINGERPRINT not in run.data.tags

    def test_the_first_of_equal_trials_is_the_best_and_all_scores_are_logged(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        set_grid("{max_iter: [200, 300]}")
        pipeline = Pipeline(monkeypatch)
        with caplog.at_level(logging.INFO, logger=search.__name__):
            candidate = pipeline.train()
        assert pipeline.client.get_run(candidate.run_id).data.params["max_iter"] == "200"
        score = f"{candidate.metrics['validation_roc_auc']:.4f}"
        assert [record.getMessage() for record in caplog.records if record.name == search.__name__] == [
            f"Trial 1: validation_roc_auc {score} with max_iter=200",
            f"Trial 2: validation_roc_auc {score} with max_iter=300",
            f"Trial 1 is the best of 2: roc_auc {score} with max_iter=200",
        ]

    def test_values_may_be_any_json(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("numbers, **parameters", "numbers, note, **parameters", MODEL)
        set_grid("{note: [null, [1, 2], {a: 1}, 1, true, 1.0]}")
        candidate = Pipeline(monkeypatch).train()
        assert candidate.trials is not None
        notes = [json.dumps(trial.parameters["note"]) for trial in candidate.trials.best]
        assert notes == ["null", "[1, 2]", '{"a": 1}', "1", "true"]  # the best five; all are equal
        assert candidate.trials.complete == 6

    def test_the_next_run_uses_the_candidate_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_grid("{C: [1.0e-9, 0.5]}")
        first = Pipeline(monkeypatch).train()
        again = Pipeline(monkeypatch)
        assert again.train().run_id == first.run_id
        assert again.candidate.trials == first.trials
        assert len(tracked_runs(again)) == 3

    def test_there_is_no_validation_without_a_grid(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pipeline = Pipeline(monkeypatch)
        candidate = pipeline.train()
        (run,) = tracked_runs(pipeline)
        assert run.data.tags[runs.FINGERPRINT] == candidate.fingerprint
        assert not [name for name in candidate.metrics if name.startswith("validation")]
        assert candidate.trials is None


@pytest.mark.usefixtures("search_workspace")
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


@pytest.mark.usefixtures("search_workspace")
class TestFailure:
    @pytest.mark.parametrize("how", ["interrupted", "killed with -9"])
    def test_an_interrupted_grid_continues_without_repeating_trials(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
    ) -> None:
        set_grid("{C: [1.0e-9, 0.5, 1.0]}")
        first = Pipeline(monkeypatch, BUILD_TAG="ct-1")
        with monkeypatch.context() as patch:
            interrupt_after(2, patch)
            with pytest.raises(KeyboardInterrupt):
                first.train()
        assert statuses(first) == ["FAILED", "FINISHED", "FINISHED"]
        if how == "killed with -9":  # nothing closes the run of the training
            first.client.update_run(tracked_runs(first)[0].info.run_id, "RUNNING")
        again = Pipeline(monkeypatch, BUILD_TAG="ct-2")
        with caplog.at_level(logging.INFO):
            candidate = again.train()
        assert again.plan.resumed_run_id is None
        assert "Continuing the search: 2 of 3 trials are known" in caplog.messages
        assert [*trials_of(again)] == ["ct-1-1", "ct-1-2", "ct-2-3"]
        assert "RUNNING" not in statuses(again)
        assert candidate.trials is not None
        assert candidate.trials.complete == 3

    @pytest.mark.integration(seconds=25)
    def test_parameters_pass_unchanged_and_an_invalid_combination_fails_alone(
        self, monkeypatch: pytest.MonkeyPatch, search_workspace: Path, forked_python: ForkedPython
    ) -> None:
        hostile = """it's "quoted" {C} $HOME `id` \\ & ü; #"""
        change("numbers, **parameters", "numbers, note, **parameters", MODEL)
        set_grid(json.dumps({"note": [hostile], "C": [-1.0, 2.0]}))
        shutil.copy(ROOT / "MLproject", search_workspace)
        shutil.copytree(ROOT / "scripts", search_workspace / "scripts")
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        monkeypatch.setenv("PATH", os.environ["PATH"])  # restored after the test, because training changes it
        monkeypatch.setattr(sys, "executable", str(forked_python.python))  # the entry point's Python is beside it
        monkeypatch.setitem(train.COMPUTE, "local", local.train)
        candidate = pipeline.train()
        assert candidate.trials is not None
        assert (candidate.trials.complete, candidate.trials.failed) == (1, 1)
        run = pipeline.client.get_run(candidate.run_id)
        assert (run.data.params["note"], run.data.params["C"]) == (hostile, "2.0")
        assert 50 < run.data.metrics["peak_memory_mb"] < 5000
        failed = trials_of(pipeline)["ct-7-1"]
        assert failed.info.status == "FAILED"
        assert "cannot be fitted: The 'C' parameter" in failed.data.tags[trials.NOTE]

    def test_failed_trials_are_tried_again_by_the_next_run_only(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        set_grid("{C: [-1.0, -2.0, -3.0, -4.0]}")
        first = Pipeline(monkeypatch, BUILD_TAG="ct-1")
        message = "^no trial of the search succeeds: Pipeline cannot be fitted: The 'C' parameter"
        with caplog.at_level(logging.INFO), pytest.raises(UserError, match=message):
            first.train()
        assert "Trial 4: Pipeline cannot be fitted: The 'C' parameter" in caplog.text
        assert statuses(first) == ["FAILED"] * 5
        with pytest.raises(UserError, match=message):
            Pipeline(monkeypatch, BUILD_TAG="ct-2").train()
        assert [*trials_of(first)] == [f"ct-{run}-{number}" for run in (1, 2) for number in (1, 2, 3, 4)]

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

    def test_parameters_of_the_command_are_not_varied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_grid("{C: [0.5, 1.0], max_iter: [100, 200]}")
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        folder = pipeline.take_snapshot().train.path.parent
        run_id = fit.fit("toy", folder, {"C": 0.25})
        assert pipeline.client.get_run(run_id).data.params["C"] == "0.25"
        assert [run.data.params for run in trials_of(pipeline).values()] == [{"max_iter": "100"}, {"max_iter": "200"}]
        fit.fit("toy", folder, {"C": 0.25, "max_iter": 300})
        assert len(trials_of(pipeline)) == 2


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
    model = Model(task="regression", grid=grid)
    combinations = [model.combination(number) for number in range(model.trials)]
    assert len({json.dumps(each) for each in combinations}) == (math.prod(map(len, grid.values())) if grid else 0)
    assert all(each.keys() == grid.keys() for each in combinations)
    assert all(value in grid[name] for each in combinations for name, value in each.items())
    assert all(model.has_trial(number, each) for number, each in enumerate(combinations))
    assert not any(model.has_trial(number + 1, each) for number, each in enumerate(combinations))
