"""A search of parameters: Optuna's trials on the newest training rows, and the best one fitted on all of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from continuous_training.errors import UserError
from continuous_training.formatting import format_parameters
from continuous_training.registry import runs
from continuous_training.reports import page
from continuous_training.reports.run_documents import RunDocuments
from continuous_training.settings import Search, load_settings
from continuous_training.training import search
from continuous_training.training.search_worker import is_greater_better
from pipeline import Pipeline
from stored_versions import load_estimator
from toy import change, events, import_again, store

if TYPE_CHECKING:
    from mlflow.entities import Run as TrackedRun
pytestmark = pytest.mark.file_seconds(40)

C = "{type: float, low: 1.0e-6, high: 10, log: true}"
BOOSTING = """
from lightgbm import LGBMClassifier


def build(categories, numbers, **parameters):
    return LGBMClassifier(verbose=-1, n_jobs=1, **parameters)
"""
WAIT = """

def wait_for_another_process():
    import os
    import time
    from pathlib import Path

    Path(f"{os.getpid()}.pid").touch()
    deadline = time.monotonic() + 60
    while len(list(Path().glob("*.pid"))) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError("there is no other process")
        time.sleep(0.05)
"""


def set_search(space: str, more: str = "trials: 4") -> None:
    change("parameters: {C: 1.0}", f"parameters: {{C: 1.0}}\n  search:\n    space: {space}\n    {more}")


@pytest.fixture(autouse=True)
def _source_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes of a search import the model's package of the workspace."""
    if "mlflow_workspace" in request.fixturenames:
        folder: Path = request.getfixturevalue("mlflow_workspace")
        monkeypatch.setenv("PYTHONPATH", str(folder / "src"))


def trials_of(pipeline: Pipeline) -> list[TrackedRun]:
    """Return the MLflow runs of the trials, the oldest first."""
    experiment = runs.experiment_id(pipeline.client, "toy")
    query = f"tags.`{runs.PARENT}` != ''"
    return list(pipeline.client.search_runs([experiment], query, order_by=["attributes.start_time ASC"]))


@pytest.mark.usefixtures("mlflow_workspace")
class TestSearch:
    def test_the_best_trial_is_fitted_on_all_training_rows(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        set_search(f"{{C: {C}, max_iter: {{type: int, low: 100, high: 200, step: 50}}}}")
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        with caplog.at_level(logging.INFO):
            candidate = pipeline.train()
        trials = trials_of(pipeline)
        scores = [trial.data.metrics["validation_roc_auc"] for trial in trials]
        names = [trial.info.run_name for trial in trials]
        assert names == ["ct-7-1", "ct-7-2", "ct-7-3", "ct-7-4"]
        assert len({trial.data.params["C"] for trial in trials}) == 4
        assert {trial.data.params["max_iter"] for trial in trials} <= {"100", "150", "200"}
        assert {trial.data.tags[runs.PARENT] for trial in trials} == {candidate.run_id}
        best = trials[scores.index(max(scores))]
        assert candidate.metrics["validation_roc_auc"] == max(scores)
        assert pipeline.client.get_run(candidate.run_id).data.params["C"] == best.data.params["C"]
        assert float(best.data.params["C"]) == load_estimator(candidate.model_uri)[-1].C
        assert candidate.trials is not None
        assert (candidate.trials.complete, candidate.trials.pruned, candidate.trials.failed) == (4, 0, 0)
        assert [trial.score for trial in candidate.trials.best] == sorted(scores, reverse=True)
        assert "Fitting Pipeline on 1,800 rows of 3 features" in caplog.messages
        assert f"Trial 1: validation_roc_auc {scores[0]:.4f} with C=" in caplog.text
        assert f"The best of 4 trials: roc_auc {max(scores):.4f} with C=" in caplog.text
        text = page.render(RunDocuments({}, run=pipeline.run, candidate=candidate))
        assert "4 scored, 0 stopped early, 0 failed" in text
        assert format_parameters({"C": float(best.data.params["C"])}) in text

    def test_the_first_trial_has_the_parameters_of_training_yaml(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_search(f"{{C: {C}}}", "trials: 1")
        Pipeline(monkeypatch, BUILD_TAG="ct-1").train()
        change("high: 10", "high: 0.5")
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-2")
        pipeline.train()
        first, second = (float(trial.data.params["C"]) for trial in trials_of(pipeline))
        assert first == 1.0
        assert second < 0.5

    def test_the_fresh_rows_do_not_decide(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = events()
        set_search(f"{{C: {C}}}", "trials: 2")
        first = Pipeline(monkeypatch).train()
        fresh = rows["seen"] >= "2020-02-15"
        rows.loc[fresh, "late"] = ~rows["late"]
        store(rows)
        second = Pipeline(monkeypatch).train()
        assert first.trials == second.trials
        assert first.metrics["roc_auc"] > 0.5 > second.metrics["roc_auc"]

    def test_the_same_seed_tries_the_same_values(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_search(f"{{C: {C}}}", "trials: 3\n    seed: 5")
        trained = [Pipeline(monkeypatch, BUILD_TAG=f"ct-{number}", AS_OF=f"2020-03-0{number}") for number in (1, 2)]
        for pipeline in trained:
            pipeline.train()
        values = [trial.data.params["C"] for trial in trials_of(trained[1])]
        assert values[:3] == values[3:]

    def test_an_interrupted_search_continues(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        set_search(f"{{C: {C}}}")
        written = search._Record.write

        def interrupt(record: search._Record, study: object, trial: object) -> None:
            written(record, study, trial)  # type: ignore[arg-type]
            if len(trials_of(interrupted)) == 2:
                raise KeyboardInterrupt

        interrupted = Pipeline(monkeypatch, BUILD_TAG="ct-1")
        monkeypatch.setattr(search._Record, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            interrupted.train()
        monkeypatch.setattr(search._Record, "write", written)
        again = Pipeline(monkeypatch, BUILD_TAG="ct-2")
        with caplog.at_level(logging.INFO):
            candidate = again.train()
        assert "Continuing the search: 2 of 4 trials are known" in caplog.messages
        assert [trial.info.run_name for trial in trials_of(again)] == ["ct-1-1", "ct-1-2", "ct-2-3", "ct-2-4"]
        assert candidate.trials is not None
        assert candidate.trials.complete == 4

    def test_trials_run_at_the_same_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        source = Path("src/toy/model.py")
        change('    """Build a logistic regression."""', "    wait_for_another_process()", source)
        source.write_text(source.read_text() + WAIT)
        import_again(monkeypatch)
        set_search("{C: {type: categorical, values: [0.01, 0.02]}}", "trials: 2\n    at_once: 2\n    prune: false")
        pipeline = Pipeline(monkeypatch)
        assert pipeline.train().trials.complete == 2  # type: ignore[union-attr]

    def test_trials_without_prospect_end_early(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("lightgbm", reason="lightgbm is not installed: scripts/ct test installs it")
        Path("src/toy/model.py").write_text(BOOSTING)
        change("shade: {type: category, values: [red, green, blue]}", "shade: {type: category, feature: false}")
        import_again(monkeypatch)
        set_search(
            "{learning_rate: {type: categorical, values: [0.00001, 0.1]}}",
            "trials: 14\n  validation_days: 7",
        )
        change("parameters: {C: 1.0}", "parameters: {n_estimators: 60, num_leaves: 4, early_stopping_round: 60}")
        pipeline = Pipeline(monkeypatch)
        candidate = pipeline.train()
        assert candidate.trials is not None
        assert candidate.trials.pruned > 0
        pruned = [trial for trial in trials_of(pipeline) if trial.info.status == "KILLED"]
        assert {trial.data.params["learning_rate"] for trial in pruned} == {"1e-05"}
        assert candidate.trials.best[0].parameters == {"learning_rate": 0.1}

    def test_a_trial_that_fails_does_not_end_the_search(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_search("{C: {type: categorical, values: [-1.0, 1.0]}}", "trials: 6")
        candidate = Pipeline(monkeypatch).train()
        assert candidate.trials is not None
        assert candidate.trials.failed > 0
        assert candidate.trials.complete + candidate.trials.failed == 6
        assert {trial.parameters["C"] for trial in candidate.trials.best} == {1.0}

    def test_a_search_all_of_whose_first_trials_fail_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_search("{number_of_trees: {type: int, low: 1, high: 9}}", "trials: 50")
        pipeline = Pipeline(monkeypatch)
        with pytest.raises(UserError, match=r"^no trial of the search succeeds: .*number_of_trees"):
            pipeline.train()
        assert len(trials_of(pipeline)) == 3

    def test_a_search_ends_when_its_time_is_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_search(f"{{C: {C}}}", "trials: 1000\n    minutes: 0.03")
        pipeline = Pipeline(monkeypatch)
        candidate = pipeline.train()
        assert candidate.trials is not None
        assert 0 < candidate.trials.complete < 1000

    def test_a_process_that_dies_is_a_trial_that_failed(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = Path("src/toy/model.py")
        change(
            '    """Build a logistic',
            '    if parameters["C"] == 2:\n        os.kill(os.getpid(), 9)\n    """Build a logistic',
            source,
        )
        source.write_text(f"import os\n{source.read_text()}")
        import_again(monkeypatch)
        set_search("{C: {type: categorical, values: [1, 2]}}", "trials: 6")
        with caplog.at_level(logging.INFO):
            candidate = Pipeline(monkeypatch).train()
        assert candidate.trials is not None
        assert candidate.trials.complete + candidate.trials.failed == 6
        assert candidate.trials.failed > 0
        assert "its process died (signal 9) with C=2" in caplog.text


@pytest.mark.parametrize(
    "metric", ["auc", "aucpr", "map@5", "ndcg@1", "AUC:type=Mu", "F1:class=0", "average_precision"]
)
def test_a_larger_value_of_these_metrics_is_better(metric: str) -> None:
    assert is_greater_better(metric)


@pytest.mark.parametrize(
    "metric", ["mape", "binary_logloss", "mlogloss", "Logloss", "RMSE", "loss", "error", "Poisson"]
)
def test_a_smaller_value_of_these_metrics_is_better(metric: str) -> None:
    assert not is_greater_better(metric)


@pytest.mark.usefixtures("workspace")
class TestSettings:
    @pytest.mark.parametrize(
        ("space", "message"),
        [
            ("{}", "model.search.space: must have at least 1 item"),
            ("{C: {type: float}}", "space.C: a parameter of type float needs low"),
            ("{C: {type: float, low: 2, high: 1}}", "space.C.low: low, 2, must not be larger than high, 1"),
            ("{C: {type: float, low: 0, high: 1, log: true}}", "low must be larger than 0 if log is true"),
            ("{C: {type: float, low: 1, high: 2, log: true, step: 1}}", "step: log and step exclude each other"),
            ("{C: {type: int, low: 1.5, high: 2}}", "low of a parameter of type int must be a whole number, not 1.5"),
            ("{C: {type: categorical}}", "space.C: a parameter of type categorical needs values"),
            ("{C: {type: categorical, values: [1], low: 1}}", "low: a categorical parameter has no low"),
            ("{C: {type: int, values: [1], low: 1, high: 2}}", "values: a parameter of type int has no values"),
            ("{C: {type: integer, low: 1, high: 2}}", "C.type: must be 'float', 'int' or 'categorical'"),
        ],
    )
    def test_a_space_that_is_none_is_a_mistake_in_training_yaml(self, space: str, message: str) -> None:
        set_search(space)
        with pytest.raises(UserError, match=message):
            load_settings("toy")

    def test_a_grid_beside_a_search_is_a_mistake(self) -> None:
        set_search(f"{{C: {C}}}", "trials: 4\n  grid: {C: [1.0]}")
        with pytest.raises(UserError, match="model.grid: grid and search exclude each other: give one"):
            load_settings("toy")

    @pytest.mark.parametrize(
        ("train_days", "more", "message"),
        [
            (14, "", "model.search: the newest 14 days validate, and train_days is 14: none is left to fit on"),
            (30, "\n  validation_days: 16", "model.search: the newest 30 days validate, and train_days is 30"),
        ],
    )
    def test_windows_that_leave_no_training_rows_are_a_mistake(self, train_days: int, more: str, message: str) -> None:
        change("train_days: 60", f"train_days: {train_days}")
        set_search(f"{{C: {C}}}", f"trials: 4{more}")
        with pytest.raises(UserError, match=message):
            load_settings("toy")

    def test_the_section_is_read(self) -> None:
        set_search(f"{{C: {C}}}")
        assert load_settings("toy").model.search == Search.model_validate(
            {"space": {"C": {"type": "float", "low": 1e-6, "high": 10, "log": True}}, "trials": 4}
        )
