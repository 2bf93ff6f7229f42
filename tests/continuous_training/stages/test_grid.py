"""A grid of parameters: of several trials the best becomes the candidate, and the fresh rows are not asked which."""

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

from conftest import ROOT
from continuous_training.compute import local
from continuous_training.errors import UserError
from continuous_training.registry import runs
from continuous_training.settings import Model, load_settings
from continuous_training.stages import fit, train
from continuous_training.versions import loading
from pipeline import Pipeline
from toy import change, events, store

if TYPE_CHECKING:
    from mlflow.entities import Run as TrackedRun

    from continuous_training.compute import Trial
    from continuous_training.documents import Run, Snapshot

MODEL = Path("src/toy/model.py")

# As of 1 March the toy trains on the rows before 15 February and is judged by the fourteen days after them.
VALIDATED_SINCE, FRESH_SINCE = pd.Timestamp("2020-02-01"), pd.Timestamp("2020-02-15")


def try_out(grid: str) -> None:
    """Give the toy model a grid."""
    change("parameters: {C: 1.0}", f"parameters: {{C: 1.0}}\n  grid: {grid}")


def see_one_number_only() -> None:
    """Let the toy model have a parameter that says which of the numbers it sees."""
    change("numbers, **parameters", "numbers, sees, **parameters", MODEL)
    change("numbers)\n", "[sees])\n", MODEL)


def runs_by_name(pipeline: Pipeline) -> dict[str, TrackedRun]:
    """Return all MLflow runs, by name."""
    found = pipeline.client.search_runs([runs.experiment_id(pipeline.client, "toy")])
    return {run.info.run_name: run for run in found}


def statuses(pipeline: Pipeline) -> list[str]:
    found = pipeline.client.search_runs([runs.experiment_id(pipeline.client, "toy")])
    return sorted(run.info.status for run in found)


@pytest.mark.usefixtures("tracked")
class TestCandidate:
    def test_the_best_by_validation_is_judged_and_not_the_best_on_the_fresh_rows(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        see_one_number_only()
        try_out("{sees: [y, x]}")
        changing = events()
        changing["late"] = changing["x"] > 0
        fresh = changing["seen"] >= FRESH_SINCE
        changing.loc[fresh, "late"] = changing["y"] > 0
        changing.loc[~fresh & (changing["y"] > 1), "late"] = True
        store(changing)
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        pipeline.compare()
        by_y, by_x = runs_by_name(pipeline)["ct-7-1"], runs_by_name(pipeline)["ct-7-2"]
        assert by_x.data.metrics["validation_roc_auc"] > by_y.data.metrics["validation_roc_auc"]
        assert by_x.data.metrics["roc_auc"] < by_y.data.metrics["roc_auc"]
        assert pipeline.candidate.run_id == by_x.info.run_id
        assert "ct.verdict" in by_x.data.tags
        assert "ct.verdict" not in by_y.data.tags

    def test_the_other_trials_stay_in_mlflow_with_their_parameters_and_scores(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        try_out("{C: [1.0e-9, 0.5], max_iter: [100, 200]}")
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        candidate = pipeline.train()
        found = runs_by_name(pipeline)
        assert {name: (run.data.params["C"], run.data.params["max_iter"]) for name, run in found.items()} == {
            "ct-7-1": ("1e-09", "100"),
            "ct-7-2": ("1e-09", "200"),
            "ct-7-3": ("0.5", "100"),
            "ct-7-4": ("0.5", "200"),
        }
        for run in found.values():
            assert run.info.status == "FINISHED"
            assert 0.5 < run.data.metrics["validation_roc_auc"] < 1
            assert run.data.tags[runs.TRIAL_OF] == candidate.fingerprint
            assert run.data.tags["ct.snapshot"] == pipeline.snapshot.hash
            assert (runs.FINGERPRINT in run.data.tags) == (run.info.run_id == candidate.run_id)

    def test_the_first_of_equals_is_chosen_and_every_score_is_told(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        try_out("{max_iter: [200, 300]}")
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

    def test_the_chosen_one_is_taken_up_again_by_the_next_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        try_out("{C: [1.0e-9, 0.5]}")
        chosen = Pipeline(monkeypatch).train()
        again = Pipeline(monkeypatch)
        assert again.train().run_id == chosen.run_id
        assert len(runs_by_name(again)) == 2

    def test_without_a_grid_nothing_is_validated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        candidate = pipeline.train()
        only = runs_by_name(pipeline)["ct-7"]
        assert len(runs_by_name(pipeline)) == 1
        assert only.data.tags[runs.FINGERPRINT] == candidate.fingerprint
        assert runs.TRIAL_OF not in only.data.tags
        assert not [name for name in candidate.metrics if name.startswith("validation")]


@pytest.mark.usefixtures("tracked")
class TestValidation:
    def test_it_fits_on_the_rows_before_the_last_days_and_scores_on_those(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        try_out("{C: [0.01]}")
        candidate = Pipeline(monkeypatch).train()
        rows = events()
        before = rows[rows["seen"] < VALIDATED_SINCE]
        last = rows[(rows["seen"] >= VALIDATED_SINCE) & (rows["seen"] < FRESH_SINCE)]
        assert candidate.metrics["validation_roc_auc"] == pytest.approx(self.area(before, last), abs=1e-9)
        assert self.area(before, last) != self.area(pd.concat([before, last]), last)

    def test_the_candidate_itself_learns_from_all_training_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        try_out("{C: [0.01]}")
        candidate = Pipeline(monkeypatch).train()
        stored = loading.load(candidate.model_uri, ("numpy.dtype",))
        rows = events()
        everything = self.fitted(rows[rows["seen"] < FRESH_SINCE])
        asked = rows[["shade", "x", "y"]]
        assert stored.predict_proba(asked) == pytest.approx(everything.predict_proba(asked))

    @pytest.mark.parametrize(
        ("since", "until", "where"),
        [
            ("2020-01-01", VALIDATED_SINCE, "before the last 14 days"),
            (VALIDATED_SINCE, FRESH_SINCE, "on the last 14 days"),
        ],
    )
    def test_rows_of_one_class_choose_nothing(
        self, monkeypatch: pytest.MonkeyPatch, since: object, until: object, where: str
    ) -> None:
        try_out("{C: [0.01, 1.0]}")
        rows = events()
        rows.loc[(rows["seen"] >= since) & (rows["seen"] < until), "late"] = False
        store(rows)
        pipeline = Pipeline(monkeypatch)
        with pytest.raises(UserError, match=f"cannot be validated: all rows have the same class {where}"):
            pipeline.train()
        assert "RUNNING" not in statuses(pipeline)

    def test_a_window_without_older_rows_chooses_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        try_out("{C: [0.01, 1.0]}")
        change("train_days: 60", "train_days: 14")
        with pytest.raises(UserError, match="there are no rows before the last 14 days of the training rows"):
            Pipeline(monkeypatch).train()

    @staticmethod
    def fitted(rows: pd.DataFrame) -> Any:
        from toy.model import build  # type: ignore[import-not-found]

        return build(["shade"], ["x", "y"], C=0.01).fit(rows[["shade", "x", "y"]], rows["late"])

    def area(self, before: pd.DataFrame, last: pd.DataFrame) -> float:
        predicted = self.fitted(before).predict_proba(last[["shade", "x", "y"]])[:, 1]
        return float(roc_auc_score(last["late"], predicted))


@pytest.mark.usefixtures("tracked")
class TestFailure:
    @pytest.mark.parametrize("how", ["interrupted", "killed with -9"])
    def test_a_grid_that_did_not_end_is_trained_anew_and_leaves_no_open_mlflow_runs(
        self, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        try_out("{C: [1.0e-9, 0.5]}")
        killed = Pipeline(monkeypatch)

        def dies(run: Run, taken: Snapshot, trials: list[Trial]) -> None:
            killed._fit(run, taken, trials[:1])
            raise KeyboardInterrupt

        monkeypatch.setitem(train.COMPUTE, "local", dies)
        if how == "killed with -9":
            monkeypatch.setattr(train, "_close_runs", lambda *_: None)  # whoever is dead closes nothing
        with pytest.raises(KeyboardInterrupt):
            killed.train()
        assert statuses(killed) == ["FINISHED", "KILLED" if how == "interrupted" else "RUNNING"]
        again = Pipeline(monkeypatch)
        again.train()
        assert again.plan.resumed_run_id is None
        assert statuses(again) == ["FINISHED", "FINISHED", "FINISHED", "KILLED"]

    @pytest.mark.integration(seconds=45)
    def test_parameters_survive_the_command_of_the_project_and_a_bad_one_is_named(
        self, monkeypatch: pytest.MonkeyPatch, tracked: Path
    ) -> None:
        hostile = """it's "quoted" {C} $HOME `id` \\ & ü; #"""
        change("numbers, **parameters", "numbers, note, **parameters", MODEL)
        try_out(json.dumps({"note": [hostile], "C": [0.5, -1.0, 2.0]}))
        shutil.copy(ROOT / "MLproject", tracked)
        shutil.copytree(ROOT / "scripts", tracked / "scripts")
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7", PYTHONPATH=str(tracked / "src"))
        monkeypatch.setenv("PATH", os.environ["PATH"])  # to be put back: training goes before it
        monkeypatch.setitem(train.COMPUTE, "local", local.train)
        with pytest.raises(UserError, match=r"the training entry point failed with note=.* C=-1\.0: see its output"):
            pipeline.train()
        found = runs_by_name(pipeline)
        assert found["ct-7-1"].data.params["note"] == hostile
        assert {name: run.info.status for name, run in found.items()} == {
            "ct-7-1": "FINISHED",
            "ct-7-2": "FAILED",
            "ct-7-3": "KILLED",
        }

    @pytest.mark.parametrize("given", ["[1]", "C=1", '"C"'])
    def test_what_is_no_json_object_is_refused_before_anything_is_fitted(self, given: str) -> None:
        command = [sys.executable, ROOT / "scripts/fit.py", "--snapshot", ".", "--parameters", given]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert ended.returncode == 2
        assert f"argument --parameters: {given} is not" in ended.stderr

    def test_parameters_of_a_hand_go_before_those_of_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
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
    def test_one_that_cannot_be_tried_is_refused(self, grid: str, message: str) -> None:
        try_out(grid)
        with pytest.raises(UserError, match=message):
            load_settings("toy")


@given(
    st.dictionaries(
        st.text(min_size=1), st.lists(st.integers() | st.text(), min_size=1, max_size=4, unique=True), max_size=4
    )
)
def test_the_trials_are_all_combinations_once(grid: dict[str, list[Any]]) -> None:
    trials = Model(task="regression", grid=grid).trials
    assert len({json.dumps(trial) for trial in trials}) == len(trials) == math.prod(map(len, grid.values()))
    assert all(trial.keys() == grid.keys() for trial in trials)
    assert all(value in grid[name] for trial in trials for name, value in trial.items())
