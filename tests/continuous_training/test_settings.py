"""training.yaml and the parameters of a run: valid ones are accepted, and an error names each mistake."""

from datetime import date, datetime
from pathlib import Path

import pytest
from sklearn.metrics import get_scorer_names

from continuous_training.errors import UserError
from continuous_training.formatting.scorers import DEFINED_FOR, DEFINED_FOR_TWO_CLASSES
from continuous_training.settings import load_settings, parse_as_of, source_hash
from continuous_training.stages import set_up
from several_targets import use_several_targets
from toy import change

LINES = ("targt", "soon", "shade: {", "min_train")


@pytest.mark.usefixtures("workspace")
class TestTrainingYaml:
    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("checks:", "chekcs:", "training.yaml:18: chekcs: unknown key; did you mean checks?"),
            ("  query:", "  query: [", "is not YAML"),
            ("resamples: 200", "resamples: few", "compare.resamples: must be a whole number, not 'few'"),
            ("resamples: 200", "guardrails: {roc_auc: 0.1}", "cannot be a guardrail too"),
            ("resamples: 200", "slices: {weather: 0.1}", "compare.slices: 'weather' is not among the columns"),
            ("resamples: 200", "resamples: 150", "needs at least 200 resamples"),
            ("resamples: 200", "min_improvement: 0.1\n  non_inferior: 0.1", "exclude each other"),
            (
                "serving: {",
                "monitor: {columns: {z: {test: wasserstein}}}\nserving: {",
                "monitor.columns: 'z' is not among the columns",
            ),
            (
                "serving: {",
                "monitor: {categories: {test: wasserstein}}\nserving: {",
                "monitor.categories: 'shade' is a category",
            ),
            ("time: seen", "time: when", "data.time: the time column 'when' is not among the columns"),
            ("time: seen", "time: id", "must be of type timestamp"),
            ("late: {type: boolean, feature: false}", "late: {type: boolean}", "must have feature: false"),
            ("train_days: 60", "train_days: 0", "data.train_days: must be greater than 0, not 0"),
        ],
    )
    def test_a_mistake_is_reported_in_one_line(self, old: str, new: str, message: str) -> None:
        change(old, new)
        with pytest.raises(UserError) as error:
            load_settings("toy")
        assert message in str(error.value)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (
                "[bikes, docks]",
                "[bikes]",
                "data.target: a list of targets has two or more columns: write the name of a",
            ),
            ("[bikes, docks]", "[]", "data.target: a list of targets has two or more columns"),
            ("[bikes, docks]", "[bikes, bikes]", "data.target: the target 'bikes' is listed twice"),
            ("[bikes, docks]", "[bikes, trams]", "data.target: the target column 'trams' is not among the columns"),
            ("[bikes, docks]", "[bikes, x]", "data.columns.x: the target 'x' must have feature: false"),
            ("[bikes, docks]", "[bikes, id]", "data.target: 'id' is the key column and cannot be a target too"),
            ("[bikes, docks]", "[bikes, seen]", "'seen' is the time column and cannot be a target too"),
            (
                "[bikes, docks]",
                "[bikes, docks]\n  weight: docks",
                "'docks' is the weight column and cannot be a target",
            ),
            (
                "bikes: {type: number",
                "bikes: {type: boolean",
                "columns.bikes.type: the target 'bikes', one of several, must",
            ),
            (
                "docks: {type: integer",
                "docks: {type: integer, max_null_share: 0.1",
                "the target 'docks' cannot be null",
            ),
            ("task: regression", "task: classification", "data.target: a classification predicts one target: give one"),
            (
                "task: regression",
                "task: regression\n  batches: true",
                "model.batches: rows with several targets cannot",
            ),
            ("report: [r2]", "report: [ndcg]", "data.target: the metric ndcg ranks rows by one target"),
            ("[bikes, docks]", "{bikes: docks}", "yaml:4: data.target: must be text"),
            ("[bikes, docks]", "[bikes, 5]", "yaml:4: data.target: must be text, not 5"),
        ],
    )
    def test_a_list_of_targets_has_mistakes_of_its_own(
        self, old: str, new: str, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_several_targets(monkeypatch)
        assert load_settings("toy").data.targets == ("bikes", "docks")
        change(old, new)
        with pytest.raises(UserError) as error:
            load_settings("toy")
        assert message in str(error.value)

    def test_all_mistakes_are_listed_by_line(self) -> None:
        path = Path("src/toy/training.yaml")
        text = path.read_text()
        for old, new in (
            ("  target: late", "  targt: late"),
            ("train_days: 60", "train_days: soon"),
            ("shade: {type: category,", "shade: {type: text, feature: maybe,"),
            ("  task: classification", "  task: classification\n  min_train_rows: 5"),
        ):
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        with pytest.raises(UserError) as error:
            load_settings("toy")
        types = "'category', 'number', 'integer', 'boolean' or 'timestamp'"
        first, *details = str(error.value).splitlines()
        lines = {new: number for number, line in enumerate(text.splitlines(), 1) for new in LINES if new in line}
        assert first == f"{path} has 5 mistakes:"
        assert [line.strip() for line in details] == [
            f"{path}:{lines['targt']}: data.targt: unknown key; did you mean target?",
            f"{path}:{lines['soon']}: data.train_days: must be a whole number, not 'soon'",
            f"{path}:{lines['shade: {']}: data.columns.shade.feature: must be true or false, not 'maybe'",
            f"{path}:{lines['shade: {']}: data.columns.shade.type: must be {types}, not 'text'",
            f"{path}:{lines['min_train']}: model.min_train_rows: unknown key; did you mean checks.min_train_rows?",
        ]

    @pytest.mark.parametrize("text", ["", "- a\n- b\n", "model\n"])
    def test_a_file_without_keys_is_rejected(self, text: str) -> None:
        Path("src/toy/training.yaml").write_text(text)
        with pytest.raises(UserError, match="must be a section with keys and values"):
            load_settings("toy")

    def test_the_old_name_of_a_key_is_accepted(self) -> None:
        change("serving: {", "monitor: {shown: 7}\nserving: {")
        assert load_settings("toy").monitor.history_length == 7

    def test_the_error_for_an_unknown_model_lists_the_models(self) -> None:
        with pytest.raises(UserError, match="the models here are: toy"):
            load_settings("teapot")

    def test_the_environment_overrides_the_warehouse_of_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CT_WAREHOUSE_URL", "postgres://db/facts")
        assert load_settings("toy").warehouse_url == "postgres://db/facts"


@pytest.mark.parametrize(
    ("as_of", "moment"),
    [
        ("2013-05-01", datetime(2013, 5, 1)),
        (" 2013-05-01T06:30 ", datetime(2013, 5, 1, 6, 30)),
        ("2013-05-01T06:30:00+02:00", datetime(2013, 5, 1, 4, 30)),
        ("", datetime(2013, 4, 1)),
    ],
)
def test_as_of_is_a_moment_in_utc(as_of: str, moment: datetime) -> None:
    assert parse_as_of(as_of, date(2013, 4, 1)) == moment


def test_without_as_of_and_clock_the_moment_is_midnight() -> None:
    moment = parse_as_of("", None)
    assert (moment.hour, moment.minute, moment.second, moment.microsecond) == (0, 0, 0, 0)


@pytest.mark.usefixtures("workspace")
class TestParameters:
    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("AS_OF", "2013-02-30", "AS_OF=2013-02-30 is not a date"),
            ("MODEL", "teapot", "there is no src/teapot/training.yaml"),
            ("MODEL", "../toy", "model"),
            ("COMPUTE", "moon", "compute: Input should be 'local' or 'ec2'"),
            ("PROMOTE", "perhaps", "promote"),
            ("FORCE", "certainly", "force"),
            ("ROLLBACK", "perhaps", "rollback"),
            ("TRIGGER", "whim", "trigger"),
        ],
    )
    def test_an_invalid_parameter_ends_the_run_at_once(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=message):
            set_up.begin()

    def test_a_run_trains_unless_rollback_is_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert not set_up.begin().rollback
        monkeypatch.setenv("ROLLBACK", "true")
        monkeypatch.setenv("REASON", "version 4 is late")
        run = set_up.begin()
        assert (run.rollback, run.reason) == (True, "version 4 is late")

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("REASON", " ", "set REASON"),
            ("BRANCH_NAME", "feature/x", "has no effect on branch feature/x: start it on main"),
        ],
    )
    def test_a_rollback_without_a_reason_or_on_another_branch_is_rejected(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
    ) -> None:
        valid = {"ROLLBACK": "true", "REASON": "version 4 is late", "BRANCH_NAME": "main"}
        for variable, text in valid.items():
            monkeypatch.setenv(variable, text)
        assert set_up.begin().rollback
        monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=message):
            set_up.begin()

    @pytest.mark.parametrize(
        ("old", "new"), [("metric: roc_auc", "metric: luck"), ("report: [neg_log_loss]", "guardrails: {luck: 0.1}")]
    )
    def test_an_unknown_metric_is_rejected_at_set_up(self, old: str, new: str) -> None:
        change(old, new)
        with pytest.raises(
            UserError, match="names the metric luck, which is no scorer of scikit-learn and no function of"
        ):
            set_up.begin()

    def test_the_name_of_an_error_is_rejected_with_the_name_of_its_scorer(self) -> None:
        change("metric: roc_auc", "metric: median_absolute_error")
        with pytest.raises(UserError, match="whose scorer has a minus, write neg_median_absolute_error$"):
            set_up.begin()

    def test_the_limit_of_an_error_needs_its_minus(self) -> None:
        change("first: {roc_auc: 0.6}", "first: {neg_log_loss: 0.6}")
        with pytest.raises(UserError, match=r"first.neg_log_loss: .* never above 0: write -0.6 for at most 0.6"):
            set_up.begin()

    def test_the_scorers_that_are_not_tried_are_scorers_of_scikit_learn(self) -> None:
        assert DEFINED_FOR_TWO_CLASSES.union(*DEFINED_FOR.values()).issubset(get_scorer_names())

    def test_a_rollback_begins_with_an_invalid_training_yaml(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("src/toy/training.yaml").write_text("not: yes")
        monkeypatch.setenv("ROLLBACK", "true")
        monkeypatch.setenv("REASON", "version 4 is late")
        assert set_up.begin().rollback

    def test_a_run_begins_with_an_empty_build_folder(self) -> None:
        Path("build").mkdir()
        Path("build/verdict.json").write_text("of an earlier run")
        set_up.begin()
        assert not Path("build/verdict.json").exists()


def test_the_source_hash_depends_on_the_code_only(workspace: Path) -> None:
    before = source_hash("toy")
    (workspace / "src/toy/training.yaml").write_text("changed: true")
    assert source_hash("toy") == before
    (workspace / "src/toy/more.py").write_text("x = 1\n")
    assert source_hash("toy") != before
