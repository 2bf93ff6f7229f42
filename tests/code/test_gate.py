"""From Plan to Register: what is trained, what is judged better, and what a killed run leaves for the next one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pytest

from continuous_training import evaluation, golden, registry
from continuous_training.problem import Problem
from pipeline import Pipeline
from toy import change, events, store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("tracked")


class TestPlan:
    def test_a_new_fingerprint_is_trained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert Pipeline(monkeypatch).plan().decision == "train"

    def test_after_a_deployment_there_is_nothing_new_to_learn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Pipeline(monkeypatch).promote()
        again = Pipeline(monkeypatch).plan()
        assert again.decision == "nothing"
        assert "trained this fingerprint and was deployed" in again.reason

    def test_force_trains_although_nothing_changed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Pipeline(monkeypatch).promote()
        forced = Pipeline(monkeypatch, FORCE="true").plan()
        assert (forced.decision, forced.resumes) == ("train", None)

    def test_a_rejected_candidate_is_not_trained_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.999}")
        assert Pipeline(monkeypatch).compare().decision == "reject"
        assert Pipeline(monkeypatch).plan().decision == "nothing"

    @pytest.mark.parametrize(
        ("path", "old", "new"),
        [
            ("src/toy/training.yaml", "C: 1.0", "C: 2.0"),
            ("src/toy/model.py", "ignore", "infrequent_if_exist"),
        ],
    )
    def test_changed_parameters_or_code_are_something_new(
        self, monkeypatch: pytest.MonkeyPatch, tracked: Path, path: str, old: str, new: str
    ) -> None:
        before = Pipeline(monkeypatch).plan().fingerprint
        change(old, new, tracked / path)
        assert Pipeline(monkeypatch).plan().fingerprint != before

    def test_other_features_from_the_same_rows_are_something_new(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = Pipeline(monkeypatch).plan().fingerprint
        change("y: {type: number,", "y: {type: number, feature: false,")
        assert Pipeline(monkeypatch).plan().fingerprint != before

    def test_what_a_person_did_not_approve_is_not_promoted_by_the_next_night(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert Pipeline(monkeypatch, PROMOTE="ask").compare().decision == "promote"
        assert Pipeline(monkeypatch, PROMOTE="auto").plan().decision == "nothing"
        assert Pipeline(monkeypatch, PROMOTE="ask").plan().decision == "train"

    def test_changed_limits_of_the_comparison_are_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = Pipeline(monkeypatch).plan().fingerprint
        change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.7}")
        assert Pipeline(monkeypatch).plan().fingerprint == before


class TestTrain:
    def test_the_mlflow_run_tells_where_the_model_comes_from(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch, TRIGGER="drift", REASON="x moved", BUILD_TAG="ct-7")
        tags = run.client.get_run(run.train().run_id).data.tags
        told = {
            name: tags[f"ct.{name}"] for name in ("build_tag", "trigger", "reason", "snapshot", "lock", "fingerprint")
        }
        assert told == {
            "build_tag": "ct-7",
            "trigger": "drift",
            "reason": "x moved",
            "snapshot": run.taken.hash,
            "lock": run.run.lock,
            "fingerprint": run.planned.fingerprint,
        }

    def test_the_stored_model_is_skops_with_a_signature_and_an_example(self, monkeypatch: pytest.MonkeyPatch) -> None:
        info = mlflow.models.get_model_info(Pipeline(monkeypatch).train().model_uri)
        assert info.flavors["sklearn"]["serialization_format"] == "skops"
        assert info.signature.inputs.input_names() == ["shade", "x", "y"]
        assert info.saved_input_example_info is not None

    def test_a_model_of_types_that_are_not_trusted_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, tracked: Path
    ) -> None:
        model = tracked / "src/toy/model.py"
        model.write_text(
            model.read_text()
            + "\n\nclass Stranger(LogisticRegression):\n    pass\n\n\n"
            + "def build(categories, numbers, **parameters):\n"
            + "    return make_pipeline(make_column_transformer((SimpleImputer(), numbers)), Stranger(**parameters))\n"
        )
        with pytest.raises(Problem, match=r"add \['toy\.model\.Stranger'\] to model\.trusted_types"):
            Pipeline(monkeypatch).train()

    def test_golden_rows_are_kept_with_their_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        candidate = Pipeline(monkeypatch).train()
        rows, answers = golden.kept(candidate.run_id)
        assert len(rows["data"]) == len(answers) == golden.ROWS
        assert np.allclose(np.sum(answers, axis=1), 1)

    def test_a_candidate_trained_before_the_run_was_killed_is_taken_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        killed = Pipeline(monkeypatch)
        trained = killed.train()
        again = Pipeline(monkeypatch)
        assert again.train().run_id == trained.run_id
        assert "taken up again" in again.planned.reason

    def test_a_run_killed_while_it_trained_is_closed_and_trained_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        killed = Pipeline(monkeypatch)

        def dies(*_: object) -> None:
            raise KeyboardInterrupt

        from continuous_training import train

        monkeypatch.setitem(train.COMPUTE, "local", dies)
        with pytest.raises(KeyboardInterrupt):
            killed.train()
        again = Pipeline(monkeypatch)
        again.train()
        runs = again.client.search_runs([registry.experiment(again.client, "toy")])
        assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED"]

    def test_a_compute_that_is_not_there_is_refused_before_anything_is_done(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(Problem, match="COMPUTE=ec2 is not available"):
            Pipeline(monkeypatch, COMPUTE="ec2")

    def test_an_mlflow_that_does_not_answer_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hunter2@127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(Problem, match=r"MLflow at http://user:\*\*\*\*@127.0.0.1:9 cannot be used") as problem:
            registry.open_client()
        assert "hunter2" not in str(problem.value)


class TestCompare:
    def test_a_first_model_must_reach_the_absolute_limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        verdict = Pipeline(monkeypatch).compare()
        assert verdict.decision == "promote"
        assert verdict.champion is None
        assert verdict.rules[0].limit == pytest.approx(0.6)

    def test_a_worse_candidate_is_rejected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Pipeline(monkeypatch).promote()
        change("C: 1.0", "C: 1.0e-9")
        verdict = Pipeline(monkeypatch, AS_OF="2020-03-20").compare()
        assert verdict.decision == "reject"
        assert "roc_auc is worse" in verdict.said or "is not surely better" in verdict.said

    def test_an_equal_candidate_is_rejected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Pipeline(monkeypatch).promote()
        change("C: 1.0", "C: 1.0000001")
        verdict = Pipeline(monkeypatch).compare()
        assert verdict.decision == "reject"
        assert verdict.metrics[0].difference == pytest.approx((0, 0), abs=1e-3)

    def test_a_better_candidate_is_promoted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("C: 1.0", "C: 1.0e-9")
        change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.1}")
        noise = events()
        noise.loc[noise["seen"] < "2020-02-15", "late"] = np.random.default_rng(1).random() < 0.5
        noise.loc[::2, "late"] = ~noise["late"].loc[::2]
        store(noise)
        Pipeline(monkeypatch).promote()
        store(events())
        change("C: 1.0e-9", "C: 1.0")
        verdict = Pipeline(monkeypatch, AS_OF="2020-03-20").compare()
        assert verdict.decision == "promote", verdict.said
        assert verdict.metrics[0].difference[0] > 0

    def test_a_champion_that_has_seen_the_fresh_rows_cannot_be_compared_with(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Pipeline(monkeypatch, AS_OF="2020-03-20").promote()
        verdict = Pipeline(monkeypatch, AS_OF="2020-02-20").compare()
        assert verdict.decision == "reject"
        assert "it has seen some of them: choose a later AS_OF" in verdict.said

    def test_a_champion_that_cannot_be_loaded_is_not_taken_for_none(
        self, monkeypatch: pytest.MonkeyPatch, tracked: Path
    ) -> None:
        Pipeline(monkeypatch).promote()
        for stored in (tracked / ".ct/artifacts").rglob("model.skops"):
            stored.write_bytes(b"rotten")
        with pytest.raises(Problem, match="is registered but cannot be loaded"):
            Pipeline(monkeypatch, AS_OF="2020-03-20").compare()

    def test_a_champion_of_types_that_are_not_trusted_is_not_loaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Pipeline(monkeypatch).promote()
        with pytest.raises(Problem, match=r"asks for types that training.yaml does not trust: numpy\.dtype"):
            registry.load("models:/toy@champion", ())

    def test_a_pickled_champion_is_not_loaded(self, monkeypatch: pytest.MonkeyPatch, tracked: Path) -> None:
        Pipeline(monkeypatch).promote()
        for described in (tracked / ".ct/artifacts").rglob("MLmodel"):
            change("serialization_format: skops", "serialization_format: pickle", described)
        with pytest.raises(Problem, match="was not stored with skops"):
            registry.load("models:/toy@champion", ("numpy.dtype",))

    def test_the_verdict_is_kept_with_the_mlflow_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        verdict = run.compare()
        kept = json.loads(mlflow.artifacts.load_text(f"runs:/{run.candidate.run_id}/verdict.json"))
        assert kept["rules"][0]["said"] == verdict.rules[0].said

    def test_an_unknown_metric_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("metric: roc_auc", "metric: luck")
        with pytest.raises(Problem, match="the metric luck cannot be had"):
            Pipeline(monkeypatch).train()


class TestInterval:
    def test_it_is_the_same_each_time(self) -> None:
        ours, theirs, truth = self.models(0.3)
        asked = [evaluation.difference("roc_auc", ours, theirs, truth, confidence=0.9, resamples=100) for _ in range(2)]
        assert asked[0] == asked[1]

    def test_it_agrees_with_scipy(self) -> None:
        from scipy.stats import bootstrap
        from sklearn.metrics import roc_auc_score

        ours, theirs, truth = self.models(0.3)

        def difference(known: np.ndarray, mine: np.ndarray, other: np.ndarray) -> float:
            return float(roc_auc_score(known, mine) - roc_auc_score(known, other))

        data = (truth, ours.answers[:, 1], theirs.answers[:, 1])
        theirs_ = bootstrap(
            data, difference, paired=True, vectorized=False, n_resamples=400, method="percentile", rng=1
        )
        low, high = evaluation.difference("roc_auc", ours, theirs, truth, confidence=0.95, resamples=400)
        width = theirs_.confidence_interval.high - theirs_.confidence_interval.low
        assert low == pytest.approx(theirs_.confidence_interval.low, abs=0.15 * width)
        assert high == pytest.approx(theirs_.confidence_interval.high, abs=0.15 * width)

    def test_a_model_is_not_better_than_itself(self) -> None:
        ours, _, truth = self.models(0.3)
        found = evaluation.difference("neg_log_loss", ours, ours, truth, confidence=0.9, resamples=100)
        assert found == (0.0, 0.0)

    @staticmethod
    def models(noise: float) -> tuple[evaluation.Recorded, evaluation.Recorded, np.ndarray]:
        random = np.random.default_rng(3)
        truth = random.random(600) < 0.3
        classes = np.array([False, True])
        made = []
        for spread in (noise, 2 * noise):
            sure = np.clip(0.35 + 0.3 * truth + spread * random.normal(size=600), 0.01, 0.99)
            made.append(evaluation.RecordedClassifier(np.column_stack([1 - sure, sure]), classes))
        return made[0], made[1], truth


def aliases(run: Pipeline) -> dict[str, str]:
    return {
        alias: version.number
        for alias in (registry.CANDIDATE, registry.PREVIOUS, registry.CHAMPION)
        if (version := registry.holder(run.client, "toy", alias))
    }


class TestRegistry:
    def test_registering_twice_makes_one_version(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        first = run.register()
        assert run.register().model_version == first.model_version

    def test_a_rejected_candidate_is_not_registered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.999}")
        with pytest.raises(Problem, match="it is not registered"):
            Pipeline(monkeypatch).register()

    def test_a_candidate_that_may_never_be_promoted_is_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch, PROMOTE="never")
        run.register()
        assert aliases(run) == {"candidate": "1"}
        assert Pipeline(monkeypatch, PROMOTE="never").plan().decision == "nothing"
        assert Pipeline(monkeypatch, PROMOTE="auto").plan().decision == "train"

    def test_the_old_champion_is_kept_as_previous(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Pipeline(monkeypatch).promote()
        run = Pipeline(monkeypatch, FORCE="true")
        run.train()
        second = registry.register(run.client, "toy", run.candidate.run_id, run.candidate.model_uri, {})
        registry.promote(run.client, second)
        assert aliases(run) == {"candidate": "2", "previous": "1", "champion": "2"}

    @pytest.mark.parametrize("survived", range(4))
    def test_a_crash_between_any_two_calls_leaves_a_champion_and_the_next_try_ends_the_same(
        self, monkeypatch: pytest.MonkeyPatch, survived: int
    ) -> None:
        Pipeline(monkeypatch).promote()
        run = Pipeline(monkeypatch, FORCE="true")
        run.train()

        def go() -> None:
            made = registry.register(run.client, "toy", run.candidate.run_id, run.candidate.model_uri, {})
            registry.promote(run.client, made)

        writes = ("create_model_version", "set_registered_model_alias")
        left = iter(range(survived))
        with monkeypatch.context() as patch:
            for name in writes:

                def dies(*given: object, call: object = getattr(run.client, name), **named: object) -> object:
                    if next(left, None) is None:
                        raise KeyboardInterrupt
                    return call(*given, **named)

                patch.setattr(run.client, name, dies)
            if survived < 4:
                with pytest.raises(KeyboardInterrupt):
                    go()
        champion = registry.holder(run.client, "toy", registry.CHAMPION)
        assert champion is not None
        registry.load(champion.uri, run.given.model.trusted_types)
        go()
        assert aliases(run) == {"candidate": "2", "previous": "1", "champion": "2"}
