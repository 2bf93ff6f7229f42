"""A search of parameters: Optuna's trials on the newest training rows, and the best one fitted on all of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest

from continuous_training.errors import UserError
from continuous_training.formatting import format_parameters
from continuous_training.registry import trials
from continuous_training.registry.trials import Share
from continuous_training.reports import page
from continuous_training.reports.run_documents import RunDocuments
from continuous_training.settings import Search, load_settings
from continuous_training.stages import fit, train
from continuous_training.stages.plan import _training_parameters
from continuous_training.training import search
from continuous_training.training.search_worker import is_greater_better
from pipeline import Pipeline
from stored_versions import load_estimator
from toy import change, events, import_again, store
from tracked_trials import find_trials, interrupt_after

if TYPE_CHECKING:
    from continuous_training.documents import Run, Snapshot
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


@pytest.mark.usefixtures("search_workspace")
class TestSearch:
    def test_the_best_trial_is_fitted_on_all_training_rows(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        set_search(f"{{C: {C}, max_iter: {{type: int, low: 100, high: 200, step: 50}}}}")
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7")
        with caplog.at_level(logging.INFO):
            candidate = pipeline.train()
        found = find_trials(pipeline.client)
        scores = [trial.data.metrics["validation_roc_auc"] for trial in found]
        names = [trial.info.run_name for trial in found]
        assert names == ["ct-7-1", "ct-7-2", "ct-7-3", "ct-7-4"]
        assert len({trial.data.params["C"] for trial in found}) == 4
        assert {trial.data.params["max_iter"] for trial in found} <= {"100", "150", "200"}
        assert {trial.data.tags[trials.PARENT] for trial in found} == {candidate.run_id}
        best = found[scores.index(max(scores))]
        assert candidate.metrics["validation_roc_auc"] == max(scores)
        assert pipeline.client.get_run(candidate.run_id).data.params["C"] == best.data.params["C"]
        assert float(best.data.params["C"]) == load_estimator(candidate.model_uri)[-1].C
        assert candidate.trials is not None
        assert (candidate.trials.complete, candidate.trials.pruned, candidate.trials.failed) == (4, 0, 0)
        assert [trial.score for trial in candidate.trials.best] == sorted(scores, reverse=True)
        assert "Fitting Pipeline on 1,800 rows of 3 features" in caplog.messages
        assert f"Trial 1: validation_roc_auc {scores[0]:.4f} with C=" in caplog.text
        assert (
            f"Trial {scores.index(max(scores)) + 1} is the best of 4: roc_auc {max(scores):.4f} with C=" in caplog.text
        )
        text = page.render(RunDocuments({}, run=pipeline.run, candidate=candidate))
        assert "4 scored, 0 stopped early, 0 failed" in text
        assert format_parameters({"C": float(best.data.params["C"])}) in text

    def test_the_first_trial_has_the_parameters_of_training_yaml(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_search(f"{{C: {C}}}", "trials: 1")
        Pipeline(monkeypatch, BUILD_TAG="ct-1").train()
        change("high: 10", "high: 0.5")
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-2")
        pipeline.train()
        first, second = (float(trial.data.params["C"]) for trial in find_trials(pipeline.client))
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
        values = [trial.data.params["C"] for trial in find_trials(trained[1].client)]
        assert values[:3] == values[3:]

    def test_an_interrupted_search_continues_with_other_values(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        set_search(f"{{C: {C}}}")
        interrupted = Pipeline(monkeypatch, BUILD_TAG="ct-1")
        with monkeypatch.context() as patch:
            interrupt_after(2, patch)
            with pytest.raises(KeyboardInterrupt):
                interrupted.train()
        again = Pipeline(monkeypatch, BUILD_TAG="ct-2")
        with caplog.at_level(logging.INFO):
            candidate = again.train()
        assert "Continuing the search: 2 of 4 trials are known" in caplog.messages
        assert [trial.info.run_name for trial in find_trials(again.client)] == ["ct-1-1", "ct-1-2", "ct-2-3", "ct-2-4"]
        assert len({trial.data.params["C"] for trial in find_trials(again.client)}) == 4
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
        pruned = [trial for trial in find_trials(pipeline.client) if trial.info.status == "KILLED"]
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
        assert len(find_trials(pipeline.client)) == 3

    def test_a_search_ends_when_its_time_is_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_search(f"{{C: {C}}}", "trials: 1000\n    minutes: 0.03")
        pipeline = Pipeline(monkeypatch)
        candidate = pipeline.train()
        assert candidate.trials is not None
        assert 0 < candidate.trials.complete < 1000

    def test_a_process_that_dies_is_a_trial_that_failed(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.kill_a_trial(9, monkeypatch)
        set_search("{C: {type: categorical, values: [1, 2]}}", "trials: 6")
        with caplog.at_level(logging.INFO):
            candidate = Pipeline(monkeypatch).train()
        assert candidate.trials is not None
        assert candidate.trials.complete + candidate.trials.failed == 6
        assert candidate.trials.failed > 0
        assert "its process died (signal 9) with C=2" in caplog.text

    def test_a_trial_that_ends_with_its_machine_has_not_failed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kill_a_trial(15, monkeypatch)
        change("parameters: {C: 1.0}", "grid: {C: [1, 2, 3]}")
        pipeline = Pipeline(monkeypatch)
        with pytest.raises(UserError, match="^the search was ended by signal 15 .*; the next run continues it"):
            pipeline.train()
        assert [trial.data.params["C"] for trial in find_trials(pipeline.client)] == ["1"]

    @staticmethod
    def kill_a_trial(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let a signal end the process of a trial in which C is 2."""
        source = Path("src/toy/model.py")
        change(
            '    """Build a logistic',
            f'    if parameters["C"] == 2:\n        os.kill(os.getpid(), {number})\n    """Build a logistic',
            source,
        )
        source.write_text(f"import os\n{source.read_text()}")
        import_again(monkeypatch)


@pytest.mark.usefixtures("search_workspace")
class TestShares:
    """Instances that share the trials, here one after another."""

    def test_each_trial_is_done_once_and_the_training_does_those_of_a_lost_instance(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        set_search(f"{{C: {C}}}", "trials: 6")
        pipeline = self.search_before_training(monkeypatch, Share(0, 3), Share(1, 3))
        with caplog.at_level(logging.INFO):
            candidate = pipeline.train()
        assert "Continuing the search: 4 of 6 trials are known" in caplog.messages
        names = [trial.info.run_name for trial in find_trials(pipeline.client)]
        assert names == [f"ct-7-{number}" for number in (1, 4, 2, 5, 3, 6)]
        values = [trial.data.params["C"] for trial in find_trials(pipeline.client)]
        assert values[0] == "1.0"
        assert len(set(values)) == 6
        assert {trial.data.tags[trials.PARENT] for trial in find_trials(pipeline.client)} == {candidate.run_id}
        assert candidate.trials is not None
        assert candidate.trials.complete == 6
        assert candidate.metrics["validation_roc_auc"] == candidate.trials.best[0].score

    def test_a_repeated_instance_does_only_what_is_left_of_its_share(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_search(f"{{C: {C}}}", "trials: 3")
        pipeline = self.search_before_training(monkeypatch, Share(0, 2), Share(0, 2))
        pipeline.train()
        assert [trial.info.run_name for trial in find_trials(pipeline.client)] == ["ct-7-1", "ct-7-3", "ct-7-2"]

    def test_an_instance_learns_from_the_trials_of_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        studies: list[optuna.Study] = []
        create = search.create_study
        monkeypatch.setattr(search, "create_study", lambda *limits: studies.append(create(*limits)) or studies[-1])
        set_search(f"{{C: {C}}}", "trials: 4")
        add = trials.add_trial

        def add_beside_another(client: Any, training: Any, trial: trials.TrackedTrial, settings: Any) -> None:
            add(client, training, trial, settings)
            add(client, training, trial._replace(number=trial.number + 1), settings)

        with monkeypatch.context() as patch:
            patch.setattr(trials, "add_trial", add_beside_another)
            pipeline = self.search_before_training(monkeypatch, Share(0, 2))
            pipeline.train()
        assert len(find_trials(pipeline.client)) == 4
        assert [len(study.trials) for study in studies] == [4]  # two of its own, two of the other one

    def test_when_the_time_is_over_the_training_begins_no_other_trial(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_search(f"{{C: {C}}}", "trials: 1000\n    minutes: 0.03")
        pipeline = self.search_before_training(monkeypatch, Share(1, 2))
        pipeline.train()
        numbers = [int(trial.info.run_name.removeprefix("ct-7-")) for trial in find_trials(pipeline.client)]
        assert numbers == [*range(2, 2 * len(numbers) + 1, 2)]
        assert 0 < len(numbers) < 500

    def test_a_search_all_of_whose_trials_failed_on_other_instances_fails_with_their_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_search("{number_of_trees: {type: int, low: 1, high: 9}}", "trials: 50")
        pipeline = self.search_before_training(monkeypatch, Share(0, 2))
        with pytest.raises(UserError, match=r"^no trial of the search succeeds: .*number_of_trees"):
            pipeline.train()
        assert len(find_trials(pipeline.client)) == 3

    @staticmethod
    def search_before_training(monkeypatch: pytest.MonkeyPatch, *shares: Share) -> Pipeline:
        """Return a run whose training begins with a search by instances."""
        pipeline = Pipeline(monkeypatch, BUILD_TAG="ct-7")

        def train_after_search(run: Run, snapshot: Snapshot, run_id: str) -> None:
            for share in shares:
                fit.try_share(run.model, snapshot.train.path.parent, run_id, share)
            pipeline._fit(run, snapshot, run_id)

        monkeypatch.setitem(train.COMPUTE, "local", train_after_search)
        return pipeline


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="share|invalid literal"):
        Share.parse(text)


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

    def test_limits_of_a_search_do_not_change_the_fingerprint(self) -> None:
        set_search(f"{{C: {C}}}")
        first = _training_parameters(load_settings("toy"))
        change("trials: 4", "trials: 4\n    at_once: 2\n    minutes: 7")
        change("compare:\n", "compute: {at_once: 3}\ncompare:\n")
        assert _training_parameters(load_settings("toy")) == first
        change("trials: 4", "trials: 5")
        assert _training_parameters(load_settings("toy")) != first

    def test_another_function_of_the_metric_by_which_trials_are_scored_changes_the_fingerprint(self) -> None:
        set_search(f"{{C: {C}}}")
        change("compare:\n", "compare:\n  functions: {roc_auc: toy.metrics:first}\n")
        first = _training_parameters(load_settings("toy"))
        change("toy.metrics:first", "toy.metrics:second")
        assert _training_parameters(load_settings("toy")) != first

    def test_parameters_that_are_given_are_not_varied(self) -> None:
        set_search(f"{{C: {C}, depth: {{type: int, low: 2, high: 8}}, kind: {{type: categorical, values: [a, b]}}}}")
        model = load_settings("toy").model
        assert model.first_values == {"C": 1e-6, "depth": 2, "kind": "a"}
        assert model.override(model.first_values).trials == 0
        fixed = model.override({"C": 0.5})
        assert fixed.parameters == {"C": 0.5}
        assert fixed.has_trial(0, {"depth": 8, "kind": "b"})
        assert not fixed.has_trial(0, {"C": 0.5, "depth": 8, "kind": "b"})

    @pytest.mark.parametrize(
        ("number", "C", "depth"),
        [(4, 1.0, 2), (-1, 1.0, 2), (0, 11, 2), (0, "1", 2), (0, True, 2), (0, 1.0, 2.5), (0, 1.0, 3)],
    )
    def test_a_trial_outside_the_space_is_none(self, number: int, C: Any, depth: Any) -> None:  # noqa: N803
        set_search("{C: {type: float, low: 0.1, high: 10}, depth: {type: int, low: 2, high: 8, step: 2}}")
        model = load_settings("toy").model
        assert model.has_trial(3, {"C": 10, "depth": 4})
        assert not model.has_trial(number, {"C": C, "depth": depth})

    def test_the_section_is_read(self) -> None:
        set_search(f"{{C: {C}}}")
        assert load_settings("toy").model.search == Search.model_validate(
            {"space": {"C": {"type": "float", "low": 1e-6, "high": 10, "log": True}}, "trials": 4}
        )
