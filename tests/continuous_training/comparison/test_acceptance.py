"""ACCEPT: a person accepts a change of form, such as a new class; the quality is judged all the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from continuous_training.comparison.acceptance import accept, explain
from continuous_training.comparison.evaluation import ClassifierPredictions
from continuous_training.documents import Acceptance, Rule, Verdict
from continuous_training.errors import UserError
from continuous_training.registry import connection, runs
from continuous_training.reports import page
from continuous_training.stages import set_up
from pipeline import Pipeline
from toy import change, events, import_again, store

pytestmark = [pytest.mark.usefixtures("mlflow_workspace"), pytest.mark.file_seconds(20)]

DATABASE = Path(".ct/mlflow.db")
REASON = "parcels can be lost now"
LATER = "2020-03-20"


def store_kinds(*, lost: bool = True) -> None:
    """Store the events with a kind instead of a boolean: on time, late, or from February on lost."""
    frame = events()
    kinds = np.where(frame["late"], "late", "on time").astype(object)
    if lost:
        kinds[(frame["seen"] >= "2020-02-01") & (frame["y"] > 1.3)] = "lost"
    store(frame.assign(late=kinds))


@pytest.fixture(scope="module")
def database(mlflow_workspace_patch: pytest.MonkeyPatch) -> bytes:
    """Promote a model of two classes; return MLflow's database."""
    store_kinds(lost=False)
    change("late: {type: boolean, feature: false}", "late: {type: category, feature: false}")
    for old, new in (("metric: roc_auc", "metric: accuracy"), ("first: {roc_auc: 0.6}", "first: {accuracy: 0.4}")):
        change(old, new)
    Pipeline(mlflow_workspace_patch).promote(compare=False)
    return DATABASE.read_bytes()


@pytest.fixture
def champion(database: bytes, mlflow_workspace: Path) -> None:
    """Make the model of two classes the champion, of which later events have three."""
    (mlflow_workspace / DATABASE).write_bytes(database)
    store_kinds()
    change("late: {type: boolean, feature: false}", "late: {type: category, feature: false}")
    for old, new in (
        ("metric: roc_auc", "metric: accuracy\n  non_inferior: 0.2"),
        ("first: {roc_auc: 0.6}", "first: {accuracy: 0.4}"),
    ):
        change(old, new)
    connection.open_client()  # MLflow remembers the address of the test before


def rule(verdict: Verdict, name: str) -> Rule:
    return next(rule for rule in verdict.rules if rule.name == name)


@pytest.mark.usefixtures("champion")
class TestANewClass:
    def test_without_a_word_of_a_person_it_is_rejected_with_the_way_to_accept_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        verdict = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert verdict.decision == "reject"
        assert verdict.message == (
            "the candidate predicts late, lost, on time, the champion late, on time; to accept this, start a run with "
            "ACCEPT='the reason'"
        )
        assert verdict.metrics == []
        assert verdict.acceptance is None

    def test_with_one_it_is_promoted_and_the_version_and_the_report_say_why(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = Pipeline(monkeypatch, AS_OF=LATER, ACCEPT=f" {REASON}\n", BUILD_USER="ada")
        version = run.promote()
        verdict = run.verdict
        assert (verdict.decision, verdict.acceptance) == ("promote", Acceptance(reason=REASON, by="ada"))
        assert verdict.message.endswith(f"the champion late, on time; accepted by ada because {REASON}")
        assert json.loads(version.tags["ct.accepted"]) == {"reason": REASON, "by": "ada"}
        assert run.aliases["champion"] == version.number == "2"
        for document in (run.run, run.snapshot, run.plan, run.candidate, verdict, run.registration):
            document.write()
        page.write()
        assert f"accepted by ada because {REASON}" in page.PAGE.read_text()
        assert 'aria-label="accepted">≈</span> classes' in page.PAGE.read_text()

    def test_both_models_are_compared_on_the_rows_whose_class_both_know(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch, AS_OF=LATER, ACCEPT=REASON)
        verdict = run.compare()
        fresh = events()[lambda rows: rows["seen"].between("2020-03-05", "2020-03-19", inclusive="left")]
        known = len(fresh) - int((fresh["y"] > 1.3).sum())
        basis = f"they are compared on the {known} of {len(fresh)} fresh rows whose class both know"
        assert rule(verdict, "rows of common classes").message == basis
        accuracy = verdict.metrics[0]
        assert accuracy.champion is not None
        assert accuracy.candidate == pytest.approx(accuracy.champion, abs=0.05)  # of lost rows the champion knows none
        assert rule(verdict, "accuracy of a first model").passed

    def test_a_worse_candidate_is_rejected_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("non_inferior: 0.2", "min_improvement: 0.1")
        verdict = Pipeline(monkeypatch, AS_OF=LATER, ACCEPT=REASON).compare()
        assert verdict.decision == "reject"
        assert [rule.name for rule in verdict.rules if rule.rejects] == ["accuracy improves"]
        assert "ACCEPT" not in verdict.message

    def test_a_candidate_below_the_limits_of_a_first_model_is_rejected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("first: {accuracy: 0.4}", "first: {accuracy: 0.95}")
        verdict = Pipeline(monkeypatch, AS_OF=LATER, ACCEPT=REASON).compare()
        assert [rule.name for rule in verdict.rules if rule.rejects] == ["accuracy of a first model"]

    def test_the_rejected_candidate_is_judged_again_without_a_second_training(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = Pipeline(monkeypatch, AS_OF=LATER)
        first.compare()
        assert Pipeline(monkeypatch, AS_OF=LATER).make_plan().decision == "nothing"
        second = Pipeline(monkeypatch, AS_OF=LATER, ACCEPT=REASON)
        assert second.compare().decision == "promote"
        assert second.candidate.run_id == first.candidate.run_id

    def test_it_does_not_overrule_a_hold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        client = connection.open_client()
        client.set_registered_model_tag(
            "toy", "ct.hold", '{"reason":"x","by":null,"since":"2026-01-01T00:00:00Z","until":null}'
        )
        run = Pipeline(monkeypatch, AS_OF=LATER, ACCEPT=REASON)
        run.train()
        run.skip_compare()
        assert run.register_candidate().decision == "hold"


class TestAChampionThatCannotBeComparedWith:
    def test_once_accepted_its_successor_is_judged_as_a_first_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Pipeline(monkeypatch).promote(compare=False)
        client = connection.open_client()
        shutil.rmtree(urlsplit(client.get_model_version_download_uri("toy", "1")).path)
        rejection = Pipeline(monkeypatch, AS_OF=LATER).compare()
        assert rejection.lost_champion
        assert "accept the candidate as a first one (a run with ACCEPT='the reason')" in rejection.lost_champion
        run = Pipeline(monkeypatch, AS_OF=LATER, ACCEPT="its files are gone")
        verdict = run.compare()
        assert (verdict.decision, verdict.lost_champion) == ("promote", None)
        assert rule(verdict, "roc_auc of a first model").limit == pytest.approx(0.6)
        assert verdict.metrics[0].champion is None
        tags = client.get_run(run.candidate.run_id).data.tags
        assert tags[runs.TERMS] != "none"

    def test_one_trained_on_the_fresh_rows_is_not_compared_with(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Pipeline(monkeypatch, AS_OF=LATER).promote(compare=False)
        verdict = Pipeline(monkeypatch, AS_OF="2020-02-20", ACCEPT="the clock was wrong").compare()
        assert verdict.decision == "promote"
        assert verdict.metrics[0].champion is None


@pytest.mark.usefixtures("mlflow_workspace")
class TestChangedInputs:
    def test_are_accepted_and_the_models_are_compared_on_all_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = Path("src/toy/training.yaml")
        with_y = settings.read_text()
        change("x, y, late FROM", "x, late FROM")
        change("    y: {type: number, max_null_share: 0.2}\n", "")
        Pipeline(monkeypatch).promote(compare=False)
        settings.write_text(with_y)
        change("metric: roc_auc", "metric: roc_auc\n  non_inferior: 0.2")
        import_again(monkeypatch)
        run = Pipeline(monkeypatch, AS_OF=LATER)
        assert run.compare().message.startswith("clients do not send y: add it to compare.new_inputs once they do")
        verdict = Pipeline(monkeypatch, AS_OF=LATER, ACCEPT="all clients send y").compare()
        assert verdict.decision == "promote"
        assert verdict.metrics[0].champion is not None
        assert [rule.name for rule in verdict.rules if rule.accepted] == ["input columns"]


FORM = Rule(name="classes", passed=False, value=None, limit=None, message="other classes", form=True)
QUALITY = FORM.model_copy(update={"name": "size", "message": "too large", "form": False})
WORD = Acceptance(reason="x", by=None)


class TestAccept:
    def test_only_a_rule_of_form_that_fails_is_accepted(self) -> None:
        passed = FORM.model_copy(update={"passed": True})
        accepted = accept([FORM, QUALITY, passed], WORD)
        assert [rule.accepted for rule in accepted] == [True, False, False]
        assert [rule.rejects for rule in accepted] == [False, True, False]
        assert [rule.mark for rule in accepted] == ["≈", "✗", "✓"]
        assert accepted[0].message == "other classes; accepted because x"

    def test_without_a_word_of_a_person_nothing_is(self) -> None:
        assert accept([FORM, QUALITY], None) == [FORM, QUALITY]

    def test_the_way_to_accept_is_named_if_it_is_enough(self) -> None:
        assert explain([FORM]) == "other classes; to accept this, start a run with ACCEPT='the reason'"
        assert explain([FORM, QUALITY]) == "other classes; too large"
        assert explain(accept([FORM], WORD)) == "other classes; accepted because x"


class TestPredictionsAmongSomeClasses:
    def test_are_divided_by_their_sum(self) -> None:
        values = np.array([[0.2, 0.6, 0.2], [0.0, 1.0, 0.0]])
        among = ClassifierPredictions(values, np.array(["a", "b", "c"])).among(np.array(["a", "c"]))
        assert among.values.tolist() == [[0.5, 0.5], [0.5, 0.5]]
        assert among.classes_.tolist() == ["a", "c"]

    def test_keep_the_order_of_the_classes(self) -> None:
        values = np.array([[0.1, 0.6, 0.3]])
        among = ClassifierPredictions(values, np.array(["a", "b", "c"])).among(np.array(["c", "a"]))
        assert among.values == pytest.approx(np.array([[0.75, 0.25]]))


class TestTheParameter:
    @pytest.mark.parametrize("text", ["", "  ", "\n"])
    def test_a_blank_text_accepts_nothing(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        assert Pipeline(monkeypatch, ACCEPT=text).run.acceptance is None

    def test_a_build_that_no_person_started_names_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert Pipeline(monkeypatch, ACCEPT="x", BUILD_USER="").run.acceptance == Acceptance(reason="x", by=None)

    def test_a_text_with_line_breaks_and_control_characters_becomes_one_line(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        acceptance = Pipeline(monkeypatch, ACCEPT="new\x1b[31m\nclass", BUILD_USER="").run.acceptance
        assert acceptance == Acceptance(reason="new [31m class", by=None)

    @pytest.mark.parametrize(
        ("parameters", "name"), [({"ROLLBACK": "true"}, "ROLLBACK=true"), ({"HOLD": "hold"}, "HOLD=hold")]
    )
    def test_it_does_not_go_with_a_run_without_a_candidate(
        self, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, str], name: str
    ) -> None:
        for key, value in {**parameters, "ACCEPT": "x", "REASON": "y"}.items():
            monkeypatch.setenv(key, value)
        with pytest.raises(UserError, match=f"{name} and ACCEPT exclude each other: there is no candidate to accept"):
            set_up.begin()
