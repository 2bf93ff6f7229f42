"""Plan and Train: what is trained, and how a run continues one that was killed."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest

from continuous_training.errors import UserError
from continuous_training.registry import connection, model_versions, runs
from continuous_training.versions import golden_predictions
from pipeline import Pipeline
from stored_versions import load_estimator, read_golden_predictions
from toy import change

pytestmark = pytest.mark.usefixtures("mlflow_workspace")

DATABASE = Path(".ct/mlflow.db")
PING = {"TRIGGER": "drift", "REASON": "x has drifted"}


def use_estimator(source: Path, definition: str, name: str) -> None:
    """Let the function `build` return another estimator."""
    source.write_text(
        f"{source.read_text()}\n\n{definition}\n\n\n"
        "def build(categories, numbers, **parameters):\n"
        f"    return make_pipeline(make_column_transformer((SimpleImputer(), numbers)), {name}(**parameters))\n"
    )


class TestPlan:
    def test_a_new_fingerprint_is_trained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert Pipeline(monkeypatch).make_plan().decision == "train"

    def test_a_deployed_fingerprint_is_not_trained_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Pipeline(monkeypatch).promote(compare=False)
        plan = Pipeline(monkeypatch).make_plan()
        assert plan.decision == "nothing"
        assert "trained this fingerprint and was deployed" in plan.reason

    def test_force_trains_without_changes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Pipeline(monkeypatch).promote(compare=False)
        plan = Pipeline(monkeypatch, FORCE="true").make_plan()
        assert (plan.decision, plan.resumed_run_id) == ("train", None)

    def test_a_rejected_candidate_is_not_trained_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.999}")
        assert Pipeline(monkeypatch).compare().decision == "reject"
        assert Pipeline(monkeypatch).make_plan().decision == "nothing"

    def test_a_rejected_candidate_is_compared_again_with_changed_rules(
        self, monkeypatch: pytest.MonkeyPatch, mlflow_workspace: Path
    ) -> None:
        change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.999}")
        first = Pipeline(monkeypatch)
        first.compare()
        behaviour = mlflow_workspace / "tests/toy/test_behaviour.py"
        behaviour.parent.mkdir(parents=True)
        behaviour.write_text("def test_it(): ...")
        assert Pipeline(monkeypatch).make_plan().resumed_run_id == first.candidate.run_id
        behaviour.unlink()
        assert Pipeline(monkeypatch).make_plan().decision == "nothing"
        change("first: {roc_auc: 0.999}", "first: {roc_auc: 0.6}")
        again = Pipeline(monkeypatch)
        assert again.compare().decision == "promote"
        assert again.candidate.run_id == first.candidate.run_id

    @pytest.mark.parametrize(
        ("path", "old", "new"),
        [
            ("src/toy/training.yaml", "C: 1.0", "C: 2.0"),
            ("src/toy/model.py", "ignore", "infrequent_if_exist"),
        ],
    )
    def test_changed_parameters_or_code_change_the_fingerprint(
        self, monkeypatch: pytest.MonkeyPatch, mlflow_workspace: Path, path: str, old: str, new: str
    ) -> None:
        before = Pipeline(monkeypatch).make_plan().fingerprint
        change(old, new, mlflow_workspace / path)
        assert Pipeline(monkeypatch).make_plan().fingerprint != before

    def test_changed_features_change_the_fingerprint(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = Pipeline(monkeypatch).make_plan().fingerprint
        change("y: {type: number,", "y: {type: number, feature: false,")
        assert Pipeline(monkeypatch).make_plan().fingerprint != before

    def test_an_unapproved_candidate_is_not_promoted_by_the_next_automatic_run(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert Pipeline(monkeypatch, PROMOTE="ask").compare().decision == "promote"
        assert Pipeline(monkeypatch, PROMOTE="auto").make_plan().decision == "nothing"
        assert Pipeline(monkeypatch, PROMOTE="ask").make_plan().decision == "train"

    def test_changed_limits_of_the_comparison_do_not_change_the_fingerprint(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = Pipeline(monkeypatch).make_plan().fingerprint
        change("first: {roc_auc: 0.6}", "first: {roc_auc: 0.7}")
        assert Pipeline(monkeypatch).make_plan().fingerprint == before


@pytest.fixture(scope="module")
def database_with_champion(mlflow_workspace_patch: pytest.MonkeyPatch) -> bytes:
    """Promote a champion in a run that a ping started; return MLflow's database."""
    Pipeline(mlflow_workspace_patch, BUILD_TAG="ct-1", **PING).promote(compare=False)
    return DATABASE.read_bytes()


@pytest.mark.usefixtures("_after_a_ping")
class TestPings:
    """Repeated pings about the same event train once."""

    @pytest.fixture
    def _after_a_ping(
        self, database_with_champion: bytes, mlflow_workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (mlflow_workspace / DATABASE).write_bytes(database_with_champion)
        change("C: 1.0", "C: 2.0")  # so that the fingerprint is new
        for name, value in PING.items():
            monkeypatch.setenv(name, value)

    def test_a_repeated_ping_within_the_cool_down_is_a_duplicate(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plan = Pipeline(monkeypatch, BUILD_TAG="ct-2").make_plan()
        assert plan.decision == "duplicate"
        assert plan.reason == "run ct-1 had the same trigger and reason less than 12 hours ago"

    @pytest.mark.parametrize(
        "parameters",
        [
            {"REASON": "y has drifted"},
            {"TRIGGER": "data"},
            {"TRIGGER": "cron"},
            {"TRIGGER": "manual"},
            {"FORCE": "true"},
            {"AS_OF": "2020-03-20"},
        ],
        ids=str,
    )
    def test_another_reason_trigger_or_date_and_force_train(
        self, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, str]
    ) -> None:
        assert Pipeline(monkeypatch, BUILD_TAG="ct-2", **parameters).make_plan().decision == "train"

    def test_a_repeated_ping_after_the_cool_down_trains(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("serving: {", "triggers: {cool_down_hours: 0}\nserving: {")
        assert Pipeline(monkeypatch, BUILD_TAG="ct-2").make_plan().decision == "train"

    def test_a_ping_repeats_no_run_that_was_rolled_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch, BUILD_TAG="ct-2")
        champion = model_versions.by_alias(run.client, "toy", model_versions.CHAMPION)
        assert champion is not None
        runs.set_outcome(run.client, champion.run_id, runs.ROLLED_BACK)
        assert run.make_plan().decision == "train"

    def test_a_ping_repeats_no_run_that_was_interrupted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch, BUILD_TAG="ct-2")
        champion = model_versions.by_alias(run.client, "toy", model_versions.CHAMPION)
        assert champion is not None
        runs.clear_outcome(run.client, champion.run_id)
        assert run.make_plan().decision == "train"


class TestTrain:
    def test_the_mlflow_run_has_the_lineage_of_the_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch, TRIGGER="drift", REASON="x has drifted", BUILD_TAG="ct-7")
        tags = run.client.get_run(run.train().run_id).data.tags
        lineage = {
            name: tags[f"ct.{name}"] for name in ("build_tag", "trigger", "reason", "snapshot", "lock", "fingerprint")
        }
        assert lineage == {
            "build_tag": "ct-7",
            "trigger": "drift",
            "reason": "x has drifted",
            "snapshot": run.snapshot.hash,
            "lock": run.run.lock,
            "fingerprint": run.plan.fingerprint,
        }

    def test_the_stored_model_is_skops_with_a_signature_and_an_example(self, monkeypatch: pytest.MonkeyPatch) -> None:
        info = mlflow.models.get_model_info(Pipeline(monkeypatch).train().model_uri)
        assert info.flavors["sklearn"]["serialization_format"] == "skops"
        assert info.signature.inputs.input_names() == ["shade", "x", "y"]
        assert info.saved_input_example_info is not None

    def test_a_model_may_consist_of_classes_of_its_package(
        self, monkeypatch: pytest.MonkeyPatch, mlflow_workspace: Path
    ) -> None:
        use_estimator(mlflow_workspace / "src/toy/model.py", "class Own(LogisticRegression):\n    pass", "Own")
        run = Pipeline(monkeypatch)
        assert run.compare().decision == "promote"
        assert type(load_estimator(run.candidate.model_uri)[-1]).__name__ == "Own"

    def test_a_class_of_another_library_must_be_trusted_by_training_yaml(
        self, monkeypatch: pytest.MonkeyPatch, mlflow_workspace: Path
    ) -> None:
        (mlflow_workspace / "src/library.py").write_text(
            "from sklearn.linear_model import LogisticRegression\n\n\nclass Foreign(LogisticRegression):\n    pass\n"
        )
        use_estimator(mlflow_workspace / "src/toy/model.py", "from library import Foreign", "Foreign")
        with pytest.raises(
            UserError, match=r"its estimator contains library\.Foreign, not trusted: .* model\.trusted_types"
        ):
            Pipeline(monkeypatch).train()
        change("parameters: {C: 1.0}", "parameters: {C: 1.0}\n  trusted_types: [library.Foreign]")
        assert Pipeline(monkeypatch).train().model_uri

    def test_golden_rows_are_stored_with_their_predictions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        candidate = Pipeline(monkeypatch).train()
        rows, predictions = read_golden_predictions(candidate.model_uri)
        assert len(rows["data"]) == len(predictions) == golden_predictions.ROWS
        assert np.allclose(np.sum(predictions, axis=1), 1)

    def test_the_candidate_of_a_killed_run_is_used_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        candidate = Pipeline(monkeypatch).train()
        again = Pipeline(monkeypatch)
        assert again.train().run_id == candidate.run_id
        assert "is used again" in again.plan.reason

    def test_an_interrupted_training_is_closed_and_repeated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = Pipeline(monkeypatch)

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        from continuous_training.stages import train

        monkeypatch.setitem(train.COMPUTE, "local", interrupt)
        with pytest.raises(KeyboardInterrupt):
            first.train()
        again = Pipeline(monkeypatch)
        again.train()
        tracked_runs = again.client.search_runs([runs.experiment_id(again.client, "toy")])
        assert sorted(run.info.status for run in tracked_runs) == ["FINISHED", "KILLED"]

    def test_ec2_without_its_settings_is_rejected_at_set_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UserError, match="COMPUTE=ec2 needs compute.instance_types in training.yaml"):
            Pipeline(monkeypatch, COMPUTE="ec2")
        section = "compute: {instance_types: [c7i.large], max_hours: 1, max_cost_usd: 1}"
        change("compare:\n", f"{section}\ncompare:\n")
        with pytest.raises(UserError, match="COMPUTE=ec2 needs CT_BUCKET"):
            Pipeline(monkeypatch, COMPUTE="ec2")
        for name in ("CT_BUCKET", "CT_SUBNETS", "CT_SECURITY_GROUP", "CT_INSTANCE_PROFILE"):
            monkeypatch.setenv(name, "value")
        with pytest.raises(UserError, match="needs a tracking server that an instance can reach"):
            Pipeline(monkeypatch, COMPUTE="ec2")

    def test_the_error_for_an_unreachable_mlflow_hides_the_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hunter2@127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(UserError, match=r"MLflow at http://user:\*\*\*\*@127.0.0.1:9 cannot be used") as error:
            connection.open_client()
        assert "hunter2" not in str(error.value)
