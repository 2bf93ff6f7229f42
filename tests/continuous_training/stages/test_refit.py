"""Refit: a better candidate is fitted once more on all rows, held to the judged one, and compared by that one later."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from continuous_training.comparison import refit_rules
from continuous_training.comparison.evaluation import ClassifierPredictions, RegressorPredictions
from continuous_training.documents import Check, Refit
from continuous_training.errors import UserError
from continuous_training.registry import model_versions, refits, runs
from continuous_training.settings import Refit as Limits
from continuous_training.settings import load_settings
from continuous_training.stages import check_model, train
from continuous_training.training.fitting import fit_estimator, fix_steps
from continuous_training.versions.examination import Policy
from continuous_training.versions.frameworks.fitting import LabelledRows
from continuous_training.versions.opening import examined_version, open_version
from continuous_training.versions.signing import KEY
from pipeline import Pipeline
from stored_versions import load_estimator
from toy import change, events, import_again, store

if TYPE_CHECKING:
    from mlflow.entities import Run as TrackedRun

    from continuous_training.documents import Rule
    from continuous_training.versions.manifest import Manifest

BOOSTING = """
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder


def build(categories, numbers, **parameters):
    columns = make_column_transformer((OrdinalEncoder(), categories), ("passthrough", numbers))
    return make_pipeline(columns, HistGradientBoostingClassifier(random_state=0, **parameters))
"""
DATABASE, ARTIFACTS = Path(".ct/mlflow.db"), Path(".ct/artifacts")
FRESH_SINCE, UNTIL, NEXT_DAY = "2020-02-15", "2020-02-29", "2020-03-02"


def set_refit(value: str) -> None:
    change("serving:", f"refit: {value}\nserving:")


def manifest_of(run: Pipeline, uri: str) -> Manifest:
    with examined_version(uri, Policy("toy", run.settings.model), run.candidate.run_id) as (_, manifest):
        return manifest


class Promotion(NamedTuple):
    """MLflow's database after the promotion of a refit, and the files of both models."""

    database: bytes
    artifacts: Path
    copy: Path


@pytest.fixture(scope="module")
def promotion(mlflow_workspace_patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Promotion:
    set_refit("{min_gain: -1}")
    run = Pipeline(mlflow_workspace_patch)
    run.compare()
    run.promote_version_of(run.refit())
    runs.clear_outcome(run.client, run.candidate.run_id)  # as if the run had been killed then
    copy = tmp_path_factory.mktemp("copy") / "artifacts"
    shutil.copytree(ARTIFACTS, copy)
    return Promotion(DATABASE.read_bytes(), ARTIFACTS.resolve(), copy)


@pytest.fixture
def refit_champion(promotion: Promotion, mlflow_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Enter the workspace of a run whose refit is champion; return the run, which uses its candidate again."""
    (mlflow_workspace / DATABASE).write_bytes(promotion.database)
    shutil.rmtree(promotion.artifacts)
    shutil.copytree(promotion.copy, promotion.artifacts)
    run = Pipeline(monkeypatch, AS_OF="2020-03-01")
    run.skip_compare()
    assert run.plan.resumed_run_id
    return run


def limit(run: Pipeline, **limits: object) -> None:
    """Set limits of the refit."""
    run.settings = run.settings.model_copy(update={"refit": Limits(**limits)})


def rule(result: Refit, name: str) -> Rule:
    return next(each for each in result.rules if name in each.name)


@pytest.mark.usefixtures("mlflow_workspace")
class TestRefit:
    def test_the_winner_is_fitted_on_all_rows_and_the_version_says_what_it_is(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_refit("{min_gain: -1}")
        run = Pipeline(monkeypatch)
        run.compare()
        result = run.refit()
        rows = run.snapshot.train.rows + run.snapshot.fresh.rows
        assert (result.decision, result.trained_until) == ("refit", datetime.fromisoformat(UNTIL))
        assert result.message == f"the candidate's recipe on all {rows:,} rows before {UNTIL}"
        assert [each.name for each in result.rules] == [
            *("refit: signature", "refit: rank correlation", "refit: changed decisions", "refit: calibration"),
            "refit: gain of recent rows",
        ]
        version = model_versions.by_number(run.client, "toy", run.register_candidate().model_version)
        assert version
        assert (version.run_id, version.source) == (run.candidate.run_id, result.model_uri)
        assert version.tags["ct.refit"] == result.summary
        assert version.tags[runs.TRAINED_UNTIL] == f"{UNTIL}T00:00:00"
        lineage, judged = (manifest_of(run, uri).lineage for uri in (version.uri, run.candidate.model_uri))
        assert lineage[runs.TRAINED_UNTIL] == f"{UNTIL}T00:00:00"
        assert judged[runs.TRAINED_UNTIL] == f"{FRESH_SINCE}T00:00:00"
        assert lineage[refits.JUDGED_MODEL] == run.candidate.model_uri
        assert lineage[refits.REFIT_RUN] == result.run_id
        assert run.client.get_run(run.candidate.run_id).data.tags[refits.REFIT_RUN] == result.run_id
        assert run.client.get_run(str(result.run_id)).data.tags[runs.REFIT_OF] == run.candidate.run_id

    def test_the_refit_is_the_fit_of_the_same_recipe_on_these_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A logistic regression has one optimum, whoever fits it."""
        from toy.model import build

        set_refit("{min_gain: -1}")
        run = Pipeline(monkeypatch)
        run.compare()
        result = run.refit()
        rows = pd.concat([pd.read_parquet(part.path) for part in (run.snapshot.train, run.snapshot.fresh)])
        features = run.settings.data.features
        expected = build(["shade"], ["x", "y"], C=1.0).fit(rows[features], rows["late"])
        with open_version(result.model_uri, Policy("toy", run.settings.model), run.candidate.run_id) as version:
            predictions = version.process.predict(rows[features])
        np.testing.assert_allclose(predictions, expected.predict_proba(rows[features]), atol=1e-3)

    def test_the_number_of_steps_is_that_of_the_judged_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("src/toy/model.py").write_text(BOOSTING)
        import_again(monkeypatch)
        change("parameters: {C: 1.0}", "parameters: {max_iter: 300, learning_rate: 0.3}\n  validation_days: 10")
        set_refit("{min_gain: -1, min_correlation: 0.5, max_changed_decisions: 1}")
        run = Pipeline(monkeypatch)
        run.compare()
        steps = load_estimator(run.candidate.model_uri)[-1].n_iter_
        result = run.refit()
        assert 1 <= steps < 300
        assert result.decision == "refit", result.message
        refit = load_estimator(result.model_uri)[-1]
        assert (refit.n_iter_, refit.early_stopping) == (steps, False)
        assert "the newest 14 days" in rule(result, "gain").message

    def test_a_rejected_candidate_is_not_fitted_once_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.999}")
        run = Pipeline(monkeypatch)
        run.compare()
        with pytest.raises(UserError, match="it is not fitted once more"):
            run.refit()


@pytest.mark.usefixtures("search_workspace")
def test_the_parameters_are_those_that_a_grid_has_found(monkeypatch: pytest.MonkeyPatch) -> None:
    change("parameters: {C: 1.0}", "grid: {C: [0.00001, 1.0]}")
    set_refit("{min_gain: -1}")
    run = Pipeline(monkeypatch)
    run.compare()
    result = run.refit()
    judged, refit = (run.client.get_run(str(run_id)) for run_id in (run.candidate.run_id, result.run_id))
    assert refit.data.params["C"] == judged.data.params["C"]
    trials = run.client.search_runs([refit.info.experiment_id], "tags.`ct.trial` LIKE '%'")
    assert len(trials) == 2  # those of the training: the refit tries none


class TestJudgedModelStays:
    def test_with_refit_false(self, refit_champion: Pipeline) -> None:
        run = refit_champion
        run.settings = run.settings.model_copy(update={"refit": False})
        result = run.refit()
        reason = f"the candidate itself, on rows before {FRESH_SINCE}: refit: false in training.yaml"
        assert (result.decision, result.message, result.run_id) == ("judged", reason, None)

    def test_if_recent_rows_gained_too_little(self, refit_champion: Pipeline) -> None:
        run = refit_champion
        limit(run, min_gain=0.5)
        result = run.refit()
        gain = rule(result, "gain")
        assert result.decision == "judged"
        assert gain.value is not None
        assert -0.01 < gain.value < 0.5
        assert gain.message in result.message
        run.refit_result = result
        version = model_versions.by_number(run.client, "toy", run.register_candidate().model_version)
        assert version
        assert (version.number, version.source) == ("2", run.candidate.model_uri)  # version 1 is the refit
        assert "0.5000 is needed" in version.tags["ct.refit"]
        assert version.tags[runs.TRAINED_UNTIL] == f"{FRESH_SINCE}T00:00:00"

    @pytest.mark.parametrize("offset", [1e-9, 0, -1e-9])
    def test_the_gain_that_is_reported_is_the_one_that_decides(self, refit_champion: Pipeline, offset: float) -> None:
        limit(refit_champion, min_gain=-1)
        value = rule(refit_champion.refit(), "gain").value
        assert value is not None
        limit(refit_champion, min_gain=value + offset)
        assert refit_champion.refit().decision == ("judged" if offset > 0 else "refit")

    def test_if_the_models_disagree(self, refit_champion: Pipeline) -> None:
        limit(refit_champion, min_gain=-1, min_correlation=1, max_changed_decisions=0)
        result = refit_champion.refit()
        assert result.decision == "judged"
        assert [each.name for each in result.rules if each.rejects] == [
            *("refit: rank correlation", "refit: changed decisions"),
        ]

    def test_if_a_behaviour_test_fails_for_the_refit(
        self, refit_champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(refit_champion, min_gain=-1)
        real = check_model.check

        def fail(*arguments: object) -> object:
            failure = Check(name="a larger x is later", passed=False, message="it is not")
            return real(*arguments).model_copy(update={"checks": [failure]})

        monkeypatch.setattr(check_model, "check", fail)
        result = refit_champion.refit()
        assert result.decision == "judged"
        assert result.message.endswith("a larger x is later: it is not")

    def test_if_it_is_too_large_or_too_slow(self, refit_champion: Pipeline) -> None:
        run = refit_champion
        limit(run, min_gain=-1)
        limits = {"max_megabytes": 1e-6, "max_milliseconds": 1e-6, "max_slowdown": 1e-6}
        compare = run.settings.compare.model_copy(update=limits)
        run.settings = run.settings.model_copy(update={"compare": compare})
        result = run.refit()
        assert [each.name for each in result.rules if each.rejects] == ["latency", "slowdown", "size"]
        assert "times the candidate's" in rule(result, "slowdown").message

    def test_if_the_fit_fails(self, refit_champion: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise UserError("the training failed: it was killed for its memory")

        limit(refit_champion, min_gain=None)  # this refit has not been made yet
        monkeypatch.setitem(train.COMPUTE, "local", fail)
        result = refit_champion.refit()
        assert result.decision == "judged"
        assert "the refit failed: the training failed: it was killed for its memory" in result.message
        assert "RUNNING" not in {each.info.status for each in all_runs(refit_champion)}

    def test_if_an_earlier_release_has_not_stored_how_it_was_fitted(
        self, refit_champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runs, "RECIPE", "ct.another")
        result = refit_champion.refit()
        assert result.decision == "judged"
        assert "an earlier release trained the candidate" in result.message


def all_runs(run: Pipeline) -> list[TrackedRun]:
    return list(run.client.search_runs([runs.experiment_id(run.client, "toy")]))


class TestKilled:
    def test_a_refit_that_was_made_is_used_again(
        self, refit_champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(train.COMPUTE, "local", lambda *_: pytest.fail("it is fitted again"))
        limit(refit_champion, min_gain=-1)
        champion = model_versions.by_alias(refit_champion.client, "toy", model_versions.CHAMPION)
        assert champion
        refit_champion.refit_result = refit_champion.refit()
        assert refit_champion.refit_result.model_uri == champion.source
        assert refit_champion.register_candidate().model_version == champion.number

    def test_an_interrupted_refit_is_closed_and_repeated(
        self, refit_champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        limit(refit_champion, min_gain=None)
        with monkeypatch.context() as patch:
            patch.setitem(train.COMPUTE, "local", interrupt)
            with pytest.raises(KeyboardInterrupt):
                refit_champion.refit()
        result = refit_champion.refit()
        assert result.decision == "refit"
        assert [each.name for each in result.rules][-1] == "refit: calibration"  # there is no earlier fit
        statuses = [run.info.status for run in all_runs(refit_champion)]  # the training, and three refits
        assert sorted(statuses) == ["FINISHED", "FINISHED", "FINISHED", "KILLED"]
        assert refit_champion.client.get_run(str(result.run_id)).info.status == "FINISHED"


@pytest.mark.usefixtures("refit_champion")
class TestNextComparison:
    def test_the_next_night_compares_with_the_judged_model(
        self, refit_champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = refit_champion
        later = Pipeline(monkeypatch, AS_OF=NEXT_DAY)
        verdict = later.compare()
        message = (
            f"the champion is a refit on rows before {UNTIL}, so its judged model is compared, which was trained on "
            f"rows before {FRESH_SINCE}; the fresh rows start on 2020-02-16"
        )
        until = next(each for each in verdict.rules if each.name == "champion not trained on fresh rows")
        assert (until.passed, until.message, verdict.judged_twin) == (True, message, True)
        assert "its refit's" in verdict.summary
        with open_version(first.candidate.model_uri, Policy("toy", first.settings.model), None) as version:
            judged = version.process.predict(read_features(later))
        assert verdict.metrics[0].champion == pytest.approx(auc(judged[:, 1], later), abs=1e-9)

    def test_it_does_so_too_when_the_refit_has_not_seen_the_fresh_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The candidate's own refit will be newer than the champion by as much as the candidate is than its twin."""
        verdict = Pipeline(monkeypatch, AS_OF="2020-03-20").compare()
        assert verdict.judged_twin

    @pytest.mark.parametrize(("as_of", "passed"), [("2020-03-14", False), ("2020-03-15", True), ("2020-03-16", True)])
    def test_without_the_judged_model_the_refit_is_compared_once_the_fresh_rows_are_new_to_it(
        self, refit_champion: Pipeline, monkeypatch: pytest.MonkeyPatch, as_of: str, passed: bool
    ) -> None:
        delete_judged_model(refit_champion)
        verdict = Pipeline(monkeypatch, AS_OF=as_of).compare()
        until = next(each for each in verdict.rules if each.name == "champion not trained on fresh rows")
        assert (until.passed, verdict.judged_twin) == (passed, False)
        assert f"the champion is a refit on rows before {UNTIL}" in until.message
        assert "its judged model cannot be opened" in until.message

    def test_rows_that_the_judged_model_has_seen_too_reject(self, monkeypatch: pytest.MonkeyPatch) -> None:
        verdict = Pipeline(monkeypatch, AS_OF="2020-02-28").compare()
        assert verdict.decision == "reject"
        assert "so it may have been trained on some of them: choose a later AS_OF" in verdict.summary

    def test_without_the_judged_model_the_verdict_says_what_to_do(
        self, refit_champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        delete_judged_model(refit_champion)
        verdict = Pipeline(monkeypatch, AS_OF=NEXT_DAY).compare()
        assert verdict.decision == "reject"
        assert "its judged model cannot be opened" in verdict.summary
        assert "restore that model" in verdict.summary
        accepted = Pipeline(monkeypatch, AS_OF=NEXT_DAY, ACCEPT="the files were deleted by a clean-up").compare()
        assert accepted.decision == "promote"

    def test_a_judged_model_that_was_changed_is_not_opened(
        self, refit_champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = refit_champion
        model = first.client.get_logged_model(first.candidate.model_uri.removeprefix("models:/"))
        (Path(urlsplit(model.artifact_location).path) / "golden.json").write_text("{}")
        verdict = Pipeline(monkeypatch, AS_OF=NEXT_DAY).compare()
        assert verdict.decision == "reject"
        assert "its file golden.json is not as signed" in verdict.summary

    def test_it_goes_on_when_the_champions_run_is_purged(
        self, refit_champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = refit_champion
        first.client.delete_run(str(first.client.get_run(first.candidate.run_id).data.tags[refits.REFIT_RUN]))
        first.client.delete_run(first.candidate.run_id)
        verdict = Pipeline(monkeypatch, AS_OF=NEXT_DAY).compare()
        assert verdict.judged_twin

    def test_a_second_refit_replaces_the_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store(events().assign(late=~events()["late"]))
        later = Pipeline(monkeypatch, AS_OF=NEXT_DAY)
        limit(later, min_gain=-1)
        assert later.compare().decision == "promote"
        version = later.promote_version_of(later.refit())
        assert (version.number, version.source) == ("2", later.refit_result.model_uri)

    def test_the_run_that_promoted_it_has_nothing_more_to_do(
        self, refit_champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = refit_champion
        runs.set_outcome(run.client, run.candidate.run_id, runs.DEPLOYED)
        assert Pipeline(monkeypatch, AS_OF="2020-03-01").make_plan().decision == "nothing"

    def test_an_interrupted_promotion_is_recognized(self, monkeypatch: pytest.MonkeyPatch) -> None:
        again = Pipeline(monkeypatch, AS_OF="2020-03-01")
        assert "the candidate is the champion already" in again.compare().message


def delete_judged_model(run: Pipeline) -> None:
    model = run.client.get_logged_model(run.candidate.model_uri.removeprefix("models:/"))
    shutil.rmtree(urlsplit(model.artifact_location).path)


def read_features(run: Pipeline) -> object:
    from continuous_training.data.snapshots import read_snapshot

    return read_snapshot(run.snapshot.fresh.path, run.settings.data)[run.settings.data.features]


def auc(scores: np.ndarray, run: Pipeline) -> float:
    from sklearn.metrics import roc_auc_score

    from continuous_training.data.snapshots import read_snapshot

    return float(roc_auc_score(read_snapshot(run.snapshot.fresh.path, run.settings.data)["late"], scores))


class TestSecret:
    def test_behaviour_tests_do_not_get_the_key(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv(KEY, "secret")
        seen = {}
        monkeypatch.setattr(check_model.subprocess, "run", lambda *_, env, **__: seen.update(env) or Completed())
        check_model._run_tests(tmp_path, tmp_path, tmp_path, tmp_path / "junit.xml")
        assert KEY not in seen
        assert "CT_CANDIDATE" in seen


class Completed:
    returncode = 0


class Network:
    """A class of the model's package that stops early, as far as this is about its steps."""

    def set_steps(self, steps: int) -> None:
        self.steps = steps

    def save(self, folder: Path) -> None: ...

    @classmethod
    def load(cls, folder: Path) -> None: ...


class TestSteps:
    def test_a_class_of_ones_own_is_told_the_number_of_steps(self) -> None:
        network = Network()
        assert fix_steps(network, __name__.partition(".")[0], 12)
        assert network.steps == 12

    def test_an_estimator_without_steps_is_fitted_as_always(self) -> None:
        estimator = LogisticRegression(max_iter=50)
        assert not fix_steps(estimator, "toy", 12)
        assert estimator.max_iter == 50

    def test_a_histogram_boosting_reports_its_steps_even_if_it_prints_none(self) -> None:
        rows = np.random.default_rng(0).normal(size=(100, 2))
        training = LabelledRows(rows, pd.Series(rows[:, 0] > 0))
        estimator = HistGradientBoostingClassifier(max_iter=9, early_stopping=False)
        assert fit_estimator(estimator, "toy", training, None, lambda *_: None)[1] == 9


def classes(probabilities: list[float]) -> ClassifierPredictions:
    values = np.array(probabilities)
    return ClassifierPredictions(np.column_stack([1 - values, values]), np.array([False, True]))


class TestRules:
    @pytest.mark.parametrize(("value", "passed"), [(0.79, False), (0.8, True), (0.81, True)])
    def test_rank_correlation(self, value: float, passed: bool) -> None:
        rule = refit_rules.check_correlation(value, 0.8)
        assert (rule.passed, rule.value, rule.limit) == (passed, value, 0.8)
        assert f"{value:.4f}" in rule.message

    @pytest.mark.parametrize(("value", "passed"), [(0.09, True), (0.1, True), (0.11, False)])
    def test_changed_decisions(self, value: float, passed: bool) -> None:
        rule = refit_rules.check_changed_decisions(value, 0.1)
        assert (rule.passed, rule.value, rule.limit) == (passed, value, 0.1)

    @pytest.mark.parametrize(("error", "passed"), [(0.0, True), (0.5, True), (0.75, True), (0.8, False)])
    def test_calibration_may_be_better_and_worse_up_to_the_limit(self, error: float, passed: bool) -> None:
        rule = refit_rules.check_calibration(error, 0.5, 0.25)
        assert (rule.passed, rule.value, rule.limit) == (passed, error - 0.5, 0.25)

    @pytest.mark.parametrize(("value", "passed"), [(0.4, True), (0.5, True), (0.6, False), (np.inf, False)])
    def test_difference(self, value: float, passed: bool) -> None:
        rule = refit_rules.check_difference(value, 0.5)
        assert (rule.passed, rule.limit) == (passed, 0.5)
        assert rule.value == (value if np.isfinite(value) else None)

    @pytest.mark.usefixtures("mlflow_workspace")
    @pytest.mark.parametrize(("gain", "passed"), [(-0.001, False), (0.0, True), (0.001, True)])
    def test_gain(self, gain: float, passed: bool) -> None:
        rule = refit_rules.check_gain(gain, (gain - 1, gain + 1), 0.0, 14, load_settings("toy").compare)
        assert (rule.passed, rule.value, rule.limit) == (passed, gain, 0.0)
        assert "the newest 14 days" in rule.message
        assert "95% confidence" in rule.message

    def test_a_gain_that_cannot_be_measured_decides_nothing(self) -> None:
        rule = refit_rules.skip_gain("there are no older training rows", 0.0)
        assert (rule.passed, rule.judged, rule.rejects, rule.mark) == (True, False, False, "?")

    def test_a_classifier_agrees_in_order_decisions_and_calibration(self) -> None:
        one, other = classes([0.1, 0.2, 0.6, 0.9]), classes([0.2, 0.1, 0.4, 0.8])
        correlation, changed, calibration = refit_rules.check_agreement(
            one, other, [False, False, True, True], Limits()
        )
        assert correlation.value == pytest.approx(0.8)  # two of four neighbours are exchanged: 1 - 6 * 2 / (4 * 15)
        assert changed.value == 0.25
        assert calibration.value == pytest.approx((0.1 + 0.2 + 0.4 + 0.1) / 4 - (0.2 + 0.1 + 0.6 + 0.2) / 4)

    def test_the_class_with_the_least_agreement_counts(self) -> None:
        one = np.array([[0.6, 0.3, 0.1], [0.5, 0.2, 0.3], [0.4, 0.1, 0.5]])
        other = one[:, [0, 1, 2]].copy()
        other[:, 1] = other[::-1, 1]
        assert refit_rules.correlation(one, other) == pytest.approx(-1)

    def test_a_regressor_agrees_within_the_spread_of_each_target(self) -> None:
        judged = np.array([[0.0, 0.0], [2.0, 20.0]])
        refit = judged + np.array([0.5, 2.0])
        assert refit_rules.relative_difference(refit, judged) == pytest.approx(0.5)
        names = [
            rule.name
            for rule in refit_rules.check_agreement(*map(RegressorPredictions, (refit, judged)), judged, Limits())
        ]
        assert names == ["refit: rank correlation", "refit: difference"]

    def test_constant_predictions_agree_with_the_same_constant_only(self) -> None:
        constant, other, rising = np.ones(3), np.full(3, 2.0), np.arange(3.0)
        assert refit_rules.correlation(constant, constant) == 1
        assert refit_rules.relative_difference(constant, constant) == 0
        assert refit_rules.correlation(rising, constant) == 0
        assert refit_rules.relative_difference(other, constant) == np.inf
