"""Compare: only a significantly better candidate is promoted, and the verdict has the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from continuous_training.comparison import rules
from continuous_training.comparison.stored_model import open_model
from continuous_training.documents import Check, Rule, Verdict
from continuous_training.errors import UserError
from continuous_training.registry import connection, runs
from pipeline import Pipeline
from stored_versions import change_golden_prediction
from toy import MODELS, change, events, store

UseChampion = Callable[[str], Pipeline]

pytestmark = [pytest.mark.usefixtures("mlflow_workspace"), pytest.mark.file_seconds(90)]

DATABASE = Path(".ct/mlflow.db")
LATER = "2020-03-20"


def configure(setting: str) -> None:
    """Add a setting to the section `compare` of training.yaml."""
    change("compare:\n", f"compare:\n  {setting}\n")


def rule(verdict: Verdict, name: str) -> Rule:
    rules_by_name = {rule.name: rule for rule in verdict.rules}
    assert name in rules_by_name
    return rules_by_name[name]


def promote_good_model(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    run = Pipeline(monkeypatch)
    run.promote(compare=False)
    return run


def promote_bad_model(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Promote a model that is trained on inverted labels, and restore the data."""
    inverted = events()
    inverted.loc[::2, "late"] = ~inverted["late"].loc[::2]
    store(inverted)
    run = Pipeline(monkeypatch)
    run.promote(compare=False)
    store(events())
    return run


@pytest.fixture(scope="module")
def champions(mlflow_workspace_patch: pytest.MonkeyPatch) -> dict[str, tuple[Pipeline, bytes]]:
    """Return a good and a bad champion, each with its run and a copy of MLflow's database."""
    empty, copies = DATABASE.read_bytes(), {}
    for name, promote in (("good", promote_good_model), ("bad", promote_bad_model)):
        DATABASE.write_bytes(empty)
        copies[name] = promote(mlflow_workspace_patch), DATABASE.read_bytes()
    return copies


@pytest.fixture
def use_champion(champions: dict[str, tuple[Pipeline, bytes]], mlflow_workspace: Path) -> UseChampion:
    """Return a function that makes one of them the champion of this test's workspace and returns its run."""

    def use_champion(name: str) -> Pipeline:
        run, database = champions[name]
        (mlflow_workspace / DATABASE).write_bytes(database)
        connection.open_client()  # MLflow remembers the address of the test before
        return run

    return use_champion


class TestCompare:
    def test_a_first_model_must_reach_the_absolute_limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        verdict = Pipeline(monkeypatch).compare()
        assert verdict.decision == "promote"
        assert verdict.champion is None
        assert rule(verdict, "roc_auc of a first model").limit == pytest.approx(0.6)

    def test_a_worse_candidate_is_rejected(self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion) -> None:
        use_champion("good")
        change("C: 1.0", "C: 1.0e-9")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert "roc_auc is worse" in verdict.message or "is not significantly better" in verdict.message

    def test_an_equal_candidate_is_rejected(self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion) -> None:
        use_champion("good")
        change("C: 1.0", "C: 1.0000001")
        verdict = Pipeline(monkeypatch).compare()
        assert verdict.decision == "reject"
        assert verdict.metrics[0].difference == pytest.approx((0, 0), abs=1e-3)

    def test_a_better_candidate_is_promoted(self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion) -> None:
        use_champion("bad")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "promote", verdict.message
        assert verdict.metrics[0].difference[0] > 0
        assert verdict.message.startswith("the candidate's roc_auc is better")
        assert verdict.importance
        assert verdict.importance.features[0].name == "x"
        assert verdict.importance.features[0].change > 0.1  # the champion's labels are noise
        assert "Compared with the champion it looks more at x" in verdict.summary

    def test_a_champion_that_was_trained_on_the_fresh_rows_rejects_the_candidate(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Pipeline(monkeypatch, AS_OF=LATER).promote(compare=False)
        verdict = Pipeline(monkeypatch, AS_OF="2020-02-20").compare()
        assert verdict.decision == "reject"
        assert "it may have been trained on some of them: choose a later AS_OF" in verdict.message

    def test_a_champion_that_cannot_be_loaded_rejects_the_candidate(
        self, monkeypatch: pytest.MonkeyPatch, mlflow_workspace: Path
    ) -> None:
        Pipeline(monkeypatch).promote(compare=False)
        for path in (mlflow_workspace / ".ct/artifacts").rglob("model.skops"):
            path.write_bytes(b"corrupt")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert "cannot be compared with: the model models:/toy/1 is not opened: its file model.skops" in verdict.message

    def test_a_champion_that_was_changed_is_not_opened(
        self, monkeypatch: pytest.MonkeyPatch, mlflow_workspace: Path
    ) -> None:
        Pipeline(monkeypatch).promote(compare=False)
        for metadata in (mlflow_workspace / ".ct/artifacts").rglob("MLmodel"):
            change("serialization_format: skops", "serialization_format: pickle", metadata)
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert "is not opened: its file MLmodel is not as signed" in verdict.message

    def test_the_verdict_is_stored_with_the_mlflow_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        verdict = run.compare()
        document = json.loads(mlflow.artifacts.load_text(f"runs:/{run.candidate.run_id}/verdict.json"))
        assert document["rules"][0]["message"] == verdict.rules[0].message


class TestRules:
    """Each rule in a separate run."""

    def test_an_equal_candidate_is_promoted_with_non_inferior(
        self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion
    ) -> None:
        use_champion("good")
        configure("non_inferior: 0.02")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "promote", verdict.message
        assert verdict.message.startswith("the candidate's roc_auc is not worse by more than 0.02: improvement ")
        assert rule(verdict, "roc_auc is not inferior").limit == -0.02

    def test_a_failed_behaviour_test_rejects_a_better_candidate(
        self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion
    ) -> None:
        use_champion("bad")
        failure = Check(name="a larger x is more likely late", passed=False, message="assert 0.3 > 0.5")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare(failure)
        assert verdict.decision == "reject"
        assert verdict.message == "a larger x is more likely late: assert 0.3 > 0.5"

    def test_a_guardrail_rejects_a_candidate_that_may_worsen_another_metric(
        self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion
    ) -> None:
        use_champion("good")
        configure("non_inferior: 0.5")
        configure("guardrails: {neg_log_loss: 0.01}")
        change("C: 1.0", "C: 0.0005")  # the same ranking, with all probabilities near the mean
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert not rule(verdict, "log_loss does not worsen").passed
        assert rule(verdict, "roc_auc is not inferior").passed

    def test_a_slice_rejects_a_candidate_that_is_significantly_worse_in_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copy(MODELS / "src/trees/model.py", "src/toy/model.py")
        change("C: 1.0", "max_iter: 40, random_state: 0")
        Pipeline(monkeypatch).promote(compare=False)
        configure("non_inferior: 0.5")
        configure("slices: {shade: 0.02}")
        inverted = events()
        reds = (inverted["shade"] == "red") & (inverted["seen"] < "2020-03-05")  # training rows as of 20 March
        inverted.loc[reds, "x"] *= -1
        store(inverted)
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert {rule.name: rule.passed for rule in verdict.rules if rule.name.startswith("shade")} == {
            "shade = blue": True,
            "shade = green": True,
            "shade = red": False,
        }

    def test_a_new_input_column_needs_to_be_declared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("y: {type: number,", "y: {type: number, feature: false,")
        promote_bad_model(monkeypatch)
        change("y: {type: number, feature: false,", "y: {type: number,")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert verdict.message.startswith("clients do not send y: add it to compare.new_inputs once they do; to accept")
        configure("new_inputs: [y]")
        assert Pipeline(monkeypatch, AS_OF=LATER, FORCE="true").compare().decision == "promote"

    def test_a_champion_stays_if_the_query_lacks_its_input_columns(
        self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion
    ) -> None:
        use_champion("good")
        change("    y: {type: number, max_null_share: 0.2}\n", "")
        change("shade, x, y, late", "shade, x, late")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert verdict.message.startswith("the query does not return y, which the champion needs")
        assert verdict.metrics == []

    def test_fresh_rows_of_a_single_class_reject_the_candidate(
        self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion
    ) -> None:
        use_champion("bad")
        later = Pipeline(monkeypatch, AS_OF=LATER)
        later.train()
        fresh = pd.read_parquet(later.snapshot.fresh.path).assign(late=False)
        fresh.to_parquet(later.snapshot.fresh.path)
        verdict = later.compare()
        assert verdict.decision == "reject"
        assert verdict.message == "the fresh rows are all of one class: models cannot be compared on them"

    def test_too_few_rows_for_the_confidence_reject_the_candidate(
        self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion
    ) -> None:
        use_champion("bad")
        change("resamples: 200", "resamples: 10000\n  confidence: 0.999")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert "99.9% confidence needs 2,000" in verdict.message

    def test_resampling_days_counts_days_as_cases(
        self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion
    ) -> None:
        use_champion("bad")
        configure("resample_by: day")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.message == "14 days; 95% confidence needs 40"
        assert not {rule.name: rule.passed for rule in Pipeline(monkeypatch, AS_OF=LATER).check_data()}[
            "number of fresh cases"
        ]

    def test_limits_of_calibration_latency_and_size_reject_the_candidate(
        self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion
    ) -> None:
        use_champion("good")
        for limit in ("max_calibration_error", "max_milliseconds", "max_slowdown", "max_megabytes"):
            configure(f"{limit}: 0.0001")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        failures = {rule.name for rule in verdict.rules if not rule.passed}
        assert {"latency", "slowdown", "size"} <= failures
        assert "calibration" in {rule.name for rule in verdict.rules}

    def test_the_limit_of_the_calibration_error_is_the_champions_if_that_is_larger(self) -> None:
        assert rules.check_calibration(candidate=0.08, champion=0.2, limit=0.05).passed
        assert not rules.check_calibration(candidate=0.08, champion=0.02, limit=0.05).passed
        assert not rules.check_calibration(candidate=0.08, champion=None, limit=0.05).passed

    def test_a_champion_that_cannot_predict_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion
    ) -> None:
        champion = use_champion("good")
        later = Pipeline(monkeypatch, AS_OF=LATER)
        later.train()
        rows = pd.read_parquet(later.snapshot.fresh.path).assign(x="many")
        arguments = champion.candidate.model_uri, champion.candidate.run_id, "toy", later.settings, rows
        with (
            open_model(*arguments) as model,
            pytest.raises(UserError, match="cannot predict the rows: Cannot use mean strategy"),
        ):
            _ = model.predictions

    def test_a_champion_that_predicts_otherwise_than_when_it_was_made_rejects_the_candidate(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        champion = Pipeline(monkeypatch)
        champion.promote(compare=False)
        change_golden_prediction(champion.candidate.model_uri)
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert "its golden rows differ from those when it was made: " in verdict.message
        assert "where float64 allows 1e-09; restore it, accept the candidate as a first one" in verdict.message

    def test_a_champion_without_the_time_of_its_training_data_rejects_the_candidate(
        self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion
    ) -> None:
        first, later = use_champion("good"), Pipeline(monkeypatch, AS_OF=LATER)
        later.client.delete_tag(first.candidate.run_id, runs.TRAINED_UNTIL)
        verdict = later.compare()
        assert not rule(verdict, "champion not trained on fresh rows").passed

    def test_the_summary_has_the_decision_the_metrics_and_the_rules(
        self, monkeypatch: pytest.MonkeyPatch, use_champion: UseChampion
    ) -> None:
        use_champion("good")
        message = Pipeline(monkeypatch, AS_OF=LATER).compare().summary.splitlines()
        assert message[0] == "Verdict: reject"
        assert message[1].startswith("roc_auc              candidate 0.")
        assert any(line.startswith("✗ the candidate's roc_auc is not significantly better") for line in message)
