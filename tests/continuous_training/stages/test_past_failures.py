"""Past failures: rows that a person remembers, and that every candidate must pass from then on."""

from __future__ import annotations

import json
import runpy
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from conftest import ROOT
from continuous_training.comparison.evaluation import ClassifierPredictions, RegressorPredictions
from continuous_training.errors import UsageError, UserError
from continuous_training.registry import connection
from continuous_training.settings import Settings, load_settings, terms_hash
from continuous_training.stages import check_model, remember
from continuous_training.stages.past_failures import Expectation
from continuous_training.stages.remember import Selection
from pipeline import Pipeline
from toy import change, events, store

if TYPE_CHECKING:
    from continuous_training.documents import Check
    from continuous_training.stages.remember import Memory

pytestmark = [pytest.mark.usefixtures("mlflow_workspace"), pytest.mark.file_seconds(15)]

DATABASE, FOLDER = Path(".ct/mlflow.db"), Path("tests/toy/past_failures")
SINCE, UNTIL = datetime(2020, 1, 1), datetime(2020, 3, 1)
REASON = "late ones with a large x"


@pytest.fixture(scope="module")
def champion(mlflow_workspace_patch: pytest.MonkeyPatch) -> tuple[Pipeline, bytes]:
    """Promote a champion; return its run and MLflow's database."""
    run = Pipeline(mlflow_workspace_patch)
    run.promote(compare=False)
    return run, DATABASE.read_bytes()


@pytest.fixture
def run(champion: tuple[Pipeline, bytes], mlflow_workspace: Path) -> Pipeline:
    """Return the run of the champion, in this test's workspace."""
    (mlflow_workspace / DATABASE).write_bytes(champion[1])
    Path("tests/toy/test_behaviour.py").unlink(missing_ok=True)
    connection.open_client()  # MLflow remembers the address of the test before
    return champion[0]


def remember_rows(where: str = "x > 2 AND late", *, limit: int = 10, **options: Any) -> Memory:
    expectation = options.pop("expectation", Expectation())
    selection = Selection(where, options.pop("since", SINCE), options.pop("until", UNTIL), limit)
    return remember.remember(
        connection.open_client(), "toy", load_settings("toy"), selection, expectation, **{"reason": REASON, **options}
    )


def check(run: Pipeline) -> list[Check]:
    return check_model.check(run.run, run.settings, run.snapshot, run.candidate, run.timer).checks


class TestRemember:
    def test_the_rows_and_what_must_hold_of_them_are_a_file_beside_the_tests(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BUILD_USER", "ada")
        memory = remember_rows()
        assert memory.path == FOLDER / "late-ones-with-a-large-x.json"
        written = json.loads(memory.path.read_text())
        first, *_ = written["rows"]
        assert f"\n  {json.dumps(first)},\n" in memory.path.read_text()  # a line for each row
        assert (written["reason"], written["by"], written["where"]) == (REASON, "ada", "x > 2 AND late")
        assert written["columns"] == ["id", "seen", "shade", "x", "y", "late"]
        source = events().query("x > 2 and late and seen < '2020-03-01'")
        assert memory.matches == len(source)
        assert len(written["rows"]) == 10
        for key, _, shade, x, *_, late in written["rows"]:
            assert (shade, x, late) == (source.loc[key, "shade"], source.loc[key, "x"], True)

    @pytest.mark.usefixtures("run")
    def test_the_rows_are_spread_evenly_over_time(self) -> None:
        ids = [row[0] for row in remember_rows("id < 1000", limit=4).failure.rows]
        assert ids == [0, 250, 500, 750]

    @pytest.mark.usefixtures("run")
    def test_it_says_whether_the_champion_passes(self) -> None:
        passed, failed = remember_rows().champion, remember_rows("x > 1 AND NOT late", limit=3, name="early").champion
        assert passed
        assert (passed.passed, passed.message) == (True, "it holds for 10 of 10 rows, 10 are required")
        assert failed
        assert not failed.passed
        assert failed.message.startswith("it holds for 0 of 3 rows, 3 are required; it does not for id=")

    def test_a_model_without_champion_has_past_failures_too(self) -> None:
        assert remember_rows().champion is None

    @pytest.mark.usefixtures("run")
    def test_a_label_takes_the_place_of_the_rows_own(self) -> None:
        memory = remember_rows("x > 1 AND NOT late", label="true")
        assert {row[-1] for row in memory.failure.rows} == {True}
        assert memory.champion
        assert memory.champion.passed

    @pytest.mark.usefixtures("run")
    def test_a_file_of_that_name_stays(self) -> None:
        text = remember_rows().path.read_text()
        with pytest.raises(UserError, match=r"large-x.json exists: choose another --name, or remove the file"):
            remember_rows("late")
        assert (FOLDER / "late-ones-with-a-large-x.json").read_text() == text

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"where": "x > 100"}, "no row from 2020-01-01 to 2020-03-01 matches"),
            ({"where": "z > 1"}, '--where or --label does not fit the rows: Binder Error: .*"z" not found'),
            ({"where": "x >"}, "--where or --label does not fit the rows: Parser Error"),
            ({"where": "true); DROP TABLE matches; --"}, "--where or --label does not fit the rows: "),
            ({"where": "x > (SELECT count(*) FROM read_csv('/etc/passwd'))"}, "--where or --label .*Permission Error"),
            ({"label": "perhaps"}, "--where or --label does not fit the rows: Conversion Error"),
            ({"limit": 0}, "--limit 0 is not from 1 to 1000"),
            ({"limit": 1001}, "--limit 1001 is not from 1 to 1000"),
            ({"since": UNTIL}, "--since 2020-03-01 is not before --until 2020-03-01"),
            ({"name": "../x"}, "--name has letters from a to z, digits and single hyphens"),
            ({"reason": "!"}, "--name has letters from a to z, digits and single hyphens"),
        ],
        ids=str,
    )
    def test_what_it_cannot_use_is_one_line_and_writes_nothing(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError, match=message):
            remember_rows(**options)
        assert not list(FOLDER.glob("*"))

    def test_a_row_without_a_label_needs_one(self) -> None:
        store(events().assign(late=lambda rows: rows["late"].where(rows["id"] != 5)))
        with pytest.raises(UserError, match="the label late of 1 rows is null: say what is expected by --label"):
            remember_rows("id = 5")
        assert remember_rows("id = 5", label="false").failure.rows[0][-1] is False


class TestCheckModel:
    def test_a_candidate_that_passes_has_a_check_for_each(self, run: Pipeline) -> None:
        remember_rows()
        remember_rows("x < -2 AND NOT late", reason="early ones")
        assert [(result.name, result.passed) for result in check(run)] == [
            ("past failure: early ones", True),
            (f"past failure: {REASON}", True),
        ]

    def test_a_candidate_that_fails_one_is_rejected(self, run: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        remember_rows("x > 1 AND NOT late", limit=3)
        (result,) = check(run)
        assert not result.passed
        verdict = Pipeline(monkeypatch, AS_OF="2020-03-20").compare(result)
        assert verdict.decision == "reject"
        assert f"past failure: {REASON}: it holds for 0 of 3 rows, 3 are required" in verdict.message

    @pytest.mark.parametrize(("min_share", "passed"), [(0.5, True), (0.51, False)])
    def test_a_share_of_the_rows_is_enough_if_a_person_says_so(
        self, run: Pipeline, *, min_share: float, passed: bool
    ) -> None:
        rows = events().query("seen < '2020-03-01'")
        ids = (
            rows.query("x > 2 and late")["id"].head(1).tolist()
            + rows.query("x > 1 and not late")["id"].head(1).tolist()
        )
        remember_rows(f"id IN ({ids[0]}, {ids[1]})", expectation=Expectation(min_share=min_share))
        (result,) = check(run)
        assert result.passed is passed
        assert f"it holds for 1 of 2 rows, {1 if passed else 2} are required" in result.message

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('"shade"', '"colour"', "its rows have no column shade"),
            ('"red"', "[]", "its column shade does not fit its type in training.yaml"),
            ('"min_share"', '"share"', "is not a past failure: expectation.share"),
        ],
    )
    def test_a_file_that_does_not_fit_ends_the_run(self, run: Pipeline, old: str, new: str, message: str) -> None:
        path = remember_rows().path
        change(old, new, path)
        with pytest.raises(UserError, match=f"{path}.*{message}"):
            check(run)

    def test_another_set_is_other_terms(self, run: Pipeline) -> None:
        limits = run.settings.compare
        before = terms_hash("toy", limits, "1")
        path = remember_rows().path
        after = terms_hash("toy", limits, "1")
        change(REASON, "another", path)
        assert len({before, after, terms_hash("toy", limits, "1")}) == 3


CLASSES = np.array(["a", "b", "c"])


class TestExpectation:
    def test_the_label_is_the_most_probable_class(self) -> None:
        predictions = ClassifierPredictions(np.array([[0.4, 0.35, 0.25], [0.4, 0.4, 0.2], [0.1, 0.2, 0.7]]), CLASSES)
        assert Expectation().holds(predictions, np.array(["a", "b", "b"])).tolist() == [True, True, False]

    def test_the_label_has_at_least_a_probability(self) -> None:
        predictions = ClassifierPredictions(np.array([[0.3, 0.6, 0.1], [0.29, 0.6, 0.11]]), CLASSES)
        assert Expectation(min_probability=0.3).holds(predictions, np.array(["a", "a"])).tolist() == [True, False]

    def test_a_class_that_the_model_lacks_is_a_failure(self) -> None:
        predictions = ClassifierPredictions(np.array([[0.3, 0.6, 0.1]]), CLASSES)
        assert Expectation(min_probability=0.01).holds(predictions, np.array(["d"])).tolist() == [False]

    def test_a_number_is_at_most_so_far_from_the_label(self) -> None:
        predictions = RegressorPredictions(np.array([1.0, 1.0, 1.0]))
        assert Expectation(max_error=2).holds(predictions, np.array([3, -1, 3.1])).tolist() == [True, True, False]

    def test_of_several_targets_none_is_further(self) -> None:
        predictions = RegressorPredictions(np.array([[1.0, 5.0], [1.0, 5.0]]))
        assert Expectation(max_error=1).holds(predictions, np.array([[2, 6], [2, 6.1]])).tolist() == [True, False]

    @pytest.mark.parametrize(
        ("task", "conditions", "message"),
        [
            ("regression", {}, "a regression needs --max-error"),
            ("regression", {"max_error": 1, "min_probability": 0.5}, "--min-probability is not for a regression"),
            ("classification", {"max_error": 1}, "--max-error is not for a classification"),
            ("classification", {"min_probability": 1.1}, "--min-probability: Input should be less than or equal to 1"),
            ("classification", {"min_share": 0}, "--min-share: Input should be greater than 0"),
        ],
    )
    def test_a_condition_that_makes_no_sense_is_refused(
        self, task: str, conditions: dict[str, float], message: str
    ) -> None:
        settings = load_settings("toy")
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"task": task})})
        assert isinstance(settings, Settings)
        with pytest.raises(UsageError, match=message):
            remember.make_expectation(settings, **conditions)


@pytest.mark.usefixtures("run")
def test_the_command_prints_the_file_and_how_the_champion_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["remember.py", "--where", "x > 2 AND late", "--limit", "3", "--reason", REASON, "--model", "toy"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setenv("AS_OF", "2020-03-02")
    with pytest.raises(SystemExit) as result:
        runpy.run_path(str(ROOT / "scripts/remember.py"), run_name="__main__")
    assert not result.value.code
    output = capsys.readouterr().out
    path = FOLDER / "late-ones-with-a-large-x.json"
    assert output.startswith(f"{path}: 3 of ")
    assert output.endswith("; the champion passes: it holds for 3 of 3 rows, 3 are required; commit the file\n")
