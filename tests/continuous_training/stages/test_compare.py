"""Compare: only a candidate that is surely better replaces the champion, and the verdict says why or why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from continuous_training.comparison import rules
from continuous_training.comparison.stored_model import StoredModel
from continuous_training.documents import Check, Rule, Verdict
from continuous_training.errors import UserError
from continuous_training.registry import runs
from continuous_training.versions import loading
from pipeline import Pipeline
from toy import MODELS, change, events, store

Standing = Callable[[str], Pipeline]

pytestmark = pytest.mark.usefixtures("tracked")

DATABASE = Path(".ct/mlflow.db")
LATER = "2020-03-20"
OF_TREES = (
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "functools.partial",
    "sklearn.utils.validation.check_array",
)


def ask(more: str) -> None:
    """Add to what training.yaml asks of a candidate."""
    change("compare:\n", f"compare:\n  {more}\n")


def rule(verdict: Verdict, name: str) -> Rule:
    found = [one for one in verdict.rules if one.name == name]
    assert found, [one.name for one in verdict.rules]
    return found[0]


def promote_a_sound_one(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    run = Pipeline(monkeypatch)
    run.promote(compare=False)
    return run


def promote_a_poor_one(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Promote a model that has learnt from turned labels, and mend the data after it."""
    turned = events()
    turned.loc[::2, "late"] = ~turned["late"].loc[::2]
    store(turned)
    run = Pipeline(monkeypatch)
    run.promote(compare=False)
    store(events())
    return run


@pytest.fixture(scope="module")
def champions(tracked_module: pytest.MonkeyPatch) -> dict[str, tuple[Pipeline, bytes]]:
    """Make a sound champion and a poor one, each the first of its MLflow."""
    nothing, made = DATABASE.read_bytes(), {}
    for name, promote in (("sound", promote_a_sound_one), ("poor", promote_a_poor_one)):
        DATABASE.write_bytes(nothing)
        made[name] = promote(tracked_module), DATABASE.read_bytes()
    return made


@pytest.fixture
def standing(champions: dict[str, tuple[Pipeline, bytes]], tracked: Path) -> Standing:
    """Begin with one of them, in a workspace of this test's own; returns the run that has made it."""

    def standing(name: str) -> Pipeline:
        run, database = champions[name]
        (tracked / DATABASE).write_bytes(database)
        return run

    return standing


class TestCompare:
    def test_a_first_model_must_reach_the_absolute_limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        verdict = Pipeline(monkeypatch).compare()
        assert verdict.decision == "promote"
        assert verdict.champion is None
        assert rule(verdict, "roc_auc of a first model").limit == pytest.approx(0.6)

    def test_a_worse_candidate_is_rejected(self, monkeypatch: pytest.MonkeyPatch, standing: Standing) -> None:
        standing("sound")
        change("C: 1.0", "C: 1.0e-9")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert "roc_auc is worse" in verdict.message or "is not significantly better" in verdict.message

    def test_an_equal_candidate_is_rejected(self, monkeypatch: pytest.MonkeyPatch, standing: Standing) -> None:
        standing("sound")
        change("C: 1.0", "C: 1.0000001")
        verdict = Pipeline(monkeypatch).compare()
        assert verdict.decision == "reject"
        assert verdict.metrics[0].difference == pytest.approx((0, 0), abs=1e-3)

    def test_a_better_candidate_is_promoted(self, monkeypatch: pytest.MonkeyPatch, standing: Standing) -> None:
        standing("poor")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "promote", verdict.message
        assert verdict.metrics[0].difference[0] > 0
        assert verdict.message.startswith("the candidate's roc_auc is better")

    def test_a_champion_that_has_seen_the_fresh_rows_cannot_be_compared_with(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Pipeline(monkeypatch, AS_OF=LATER).promote(compare=False)
        verdict = Pipeline(monkeypatch, AS_OF="2020-02-20").compare()
        assert verdict.decision == "reject"
        assert "it may have been trained on some of them: choose a later AS_OF" in verdict.message

    def test_a_champion_that_cannot_be_loaded_is_not_taken_for_none(
        self, monkeypatch: pytest.MonkeyPatch, tracked: Path
    ) -> None:
        Pipeline(monkeypatch).promote(compare=False)
        for stored in (tracked / ".ct/artifacts").rglob("model.skops"):
            stored.write_bytes(b"rotten")
        with pytest.raises(UserError, match="cannot be loaded.*; it is the champion: restore its files"):
            Pipeline(monkeypatch, AS_OF=LATER).compare()

    def test_a_champion_of_types_that_are_not_trusted_is_not_loaded(self, standing: Standing) -> None:
        standing("sound")
        with pytest.raises(UserError, match=r"needs types that training.yaml does not trust: numpy\.dtype"):
            loading.load("models:/toy@champion", ())

    def test_a_pickled_champion_is_not_loaded(self, monkeypatch: pytest.MonkeyPatch, tracked: Path) -> None:
        Pipeline(monkeypatch).promote(compare=False)
        for described in (tracked / ".ct/artifacts").rglob("MLmodel"):
            change("serialization_format: skops", "serialization_format: pickle", described)
        with pytest.raises(UserError, match="was not stored with skops"):
            loading.load("models:/toy@champion", ("numpy.dtype",))

    def test_the_verdict_is_kept_with_the_mlflow_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        verdict = run.compare()
        kept = json.loads(mlflow.artifacts.load_text(f"runs:/{run.candidate.run_id}/verdict.json"))
        assert kept["rules"][0]["message"] == verdict.rules[0].message


class TestRules:
    """Each in a run of its own, against a champion that any sound candidate beats."""

    def test_an_equal_candidate_is_promoted_by_a_team_that_prefers_a_fresh_one(
        self, monkeypatch: pytest.MonkeyPatch, standing: Standing
    ) -> None:
        standing("sound")
        ask("non_inferior: 0.02")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "promote", verdict.message
        assert rule(verdict, "roc_auc improves").limit == -0.02

    def test_a_failed_behaviour_test_rejects_the_best_of_candidates(
        self, monkeypatch: pytest.MonkeyPatch, standing: Standing
    ) -> None:
        standing("poor")
        failed = Check(name="a larger x is likelier late", passed=False, message="assert 0.3 > 0.5")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare(failed)
        assert verdict.decision == "reject"
        assert verdict.message == "a larger x is likelier late: assert 0.3 > 0.5"

    def test_a_guardrail_rejects_what_may_worsen_another_metric(
        self, monkeypatch: pytest.MonkeyPatch, standing: Standing
    ) -> None:
        standing("sound")
        ask("non_inferior: 0.5")
        ask("guardrails: {neg_log_loss: 0.01}")
        change("C: 1.0", "C: 0.0005")  # the order stays, the probabilities all move to the middle
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert not rule(verdict, "neg_log_loss does not worsen").passed
        assert rule(verdict, "roc_auc improves").passed

    def test_a_slice_rejects_what_is_surely_worse_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shutil.copy(MODELS / "src/trees/model.py", "src/toy/model.py")
        change("C: 1.0", "max_iter: 40, random_state: 0")
        change("[numpy.dtype]", f"[numpy.dtype, {', '.join(OF_TREES)}]")
        Pipeline(monkeypatch).promote(compare=False)
        ask("non_inferior: 0.5")
        ask("slices: {shade: 0.02}")
        turned = events()
        reds = (turned["shade"] == "red") & (turned["seen"] < "2020-03-05")  # the rows that train as of 20 March
        turned.loc[reds, "x"] *= -1
        store(turned)
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert {one.name: one.passed for one in verdict.rules if one.name.startswith("shade")} == {
            "shade = blue": True,
            "shade = green": True,
            "shade = red": False,
        }

    def test_what_servers_are_not_sent_yet_may_not_be_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("y: {type: number,", "y: {type: number, feature: false,")
        promote_a_poor_one(monkeypatch)
        change("y: {type: number, feature: false,", "y: {type: number,")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert verdict.message == "clients do not send y: add it to compare.new_inputs once they do"
        ask("new_inputs: [y]")
        assert Pipeline(monkeypatch, AS_OF=LATER, FORCE="true").compare().decision == "promote"

    def test_a_champion_that_asks_for_what_the_query_no_longer_returns_stays(
        self, monkeypatch: pytest.MonkeyPatch, standing: Standing
    ) -> None:
        standing("sound")
        change("    y: {type: number, max_null_share: 0.2}\n", "")
        change("shade, x, y, late", "shade, x, late")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert verdict.message.startswith("the query does not return y, which the champion needs")
        assert verdict.metrics == []

    def test_fresh_rows_of_one_class_judge_nothing(self, monkeypatch: pytest.MonkeyPatch, standing: Standing) -> None:
        standing("poor")
        later = Pipeline(monkeypatch, AS_OF=LATER)
        later.train()
        fresh = pd.read_parquet(later.snapshot.fresh.path).assign(late=False)
        fresh.to_parquet(later.snapshot.fresh.path)
        verdict = later.compare()
        assert verdict.decision == "reject"
        assert verdict.message == "the fresh rows are all of one class: models cannot be compared on them"

    def test_too_few_rows_for_the_confidence_judge_nothing(
        self, monkeypatch: pytest.MonkeyPatch, standing: Standing
    ) -> None:
        standing("poor")
        change("resamples: 200", "resamples: 10000\n  confidence: 0.999")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert "99.9% confidence needs 2000" in verdict.message

    def test_few_days_are_few_cases_however_many_rows_they_have(
        self, monkeypatch: pytest.MonkeyPatch, standing: Standing
    ) -> None:
        standing("poor")
        ask("resample_by: day")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.message == "14 days; 95% confidence needs 40"
        assert not {one.name: one.passed for one in Pipeline(monkeypatch, AS_OF=LATER).check_data()}[
            "number of fresh cases"
        ]

    def test_limits_of_calibration_time_and_size_are_kept(
        self, monkeypatch: pytest.MonkeyPatch, standing: Standing
    ) -> None:
        standing("sound")
        for limit in ("max_calibration_error", "max_milliseconds", "max_slowdown", "max_megabytes"):
            ask(f"{limit}: 0.0001")
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        failed = {one.name for one in verdict.rules if not one.passed}
        assert {"latency", "slowdown", "size"} <= failed
        assert "calibration" in {one.name for one in verdict.rules}

    def test_a_champion_that_is_worse_calibrated_is_no_reason_to_keep_it(self) -> None:
        assert rules.check_calibration(candidate=0.08, champion=0.2, limit=0.05).passed
        assert not rules.check_calibration(candidate=0.08, champion=0.02, limit=0.05).passed
        assert not rules.check_calibration(candidate=0.08, champion=None, limit=0.05).passed

    def test_a_champion_that_cannot_answer_is_named(self, monkeypatch: pytest.MonkeyPatch, standing: Standing) -> None:
        standing("sound")
        later = Pipeline(monkeypatch, AS_OF=LATER)
        later.train()
        standing = StoredModel("models:/toy@champion", later.settings, pd.read_parquet(later.snapshot.fresh.path))
        standing.estimator.steps[-1][1].coef_ = None
        with pytest.raises(UserError, match="the model models:/toy@champion cannot predict the rows"):
            _ = standing.predictions

    def test_a_champion_that_does_not_tell_what_it_was_trained_on_may_have_seen_the_fresh_rows(
        self, monkeypatch: pytest.MonkeyPatch, standing: Standing
    ) -> None:
        first, later = standing("sound"), Pipeline(monkeypatch, AS_OF=LATER)
        later.client.delete_tag(first.candidate.run_id, runs.TRAINED_UNTIL)
        verdict = later.compare()
        assert not rule(verdict, "champion not trained on fresh rows").passed

    def test_the_verdict_is_said_in_words(self, monkeypatch: pytest.MonkeyPatch, standing: Standing) -> None:
        standing("sound")
        message = Pipeline(monkeypatch, AS_OF=LATER).compare().summary.splitlines()
        assert message[0] == "Verdict: reject"
        assert message[1].startswith("roc_auc              candidate 0.")
        assert any(line.startswith("✗ the candidate's roc_auc is not significantly better") for line in message)
