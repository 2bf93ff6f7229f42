"""The replay: the policies' champions, the gain or cost of each decision, the texts and the page."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import duckdb
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from conftest import TIMEOUT
from continuous_training.errors import UsageError, UserError
from continuous_training.registry import connection, model_versions
from continuous_training.replay import loop, page, summary, workspace
from continuous_training.replay.evaluation import evaluate_models
from continuous_training.replay.month_results import Difference, Evaluation, MonthResult, RunResult, TrainedModel
from continuous_training.replay.months import month_range, next_month, parse_month
from continuous_training.replay.policies import ReplayResult, compare_policies, follow_policies, score_months
from continuous_training.replay.table import format_table
from continuous_training.settings import Compare, load_settings
from pipeline import Pipeline
from stored_versions import load_estimator
from toy import change

ROOT = Path(__file__).parents[3]
LIMITS = Compare(metric="roc_auc", resamples=2000, first={"roc_auc": 0.6})


def make_run(
    month: str,
    decision: Literal["promoted", "rejected", "none"],
    champion: str | None,
    *,
    message: str = "because",
    fresh_difference: Difference | None = None,
) -> RunResult:
    """Return the run of a month; its candidate, if it has one, has the month as its name."""
    candidate = None if decision == "none" else TrainedModel(run_id=month, uri=f"models:/{month}")
    return RunResult(
        month=month,
        decision=decision,
        message=message,
        candidate=candidate,
        champion=champion,
        fresh_difference=fresh_difference,
        log="a.log",
    )


def evaluate(champion: str, spread: float = 0.002, **scores: float) -> Evaluation:
    """Return the evaluation of models, such as `m2020_01`; the resamples are evenly spread around each difference."""
    by_name = {name.removeprefix("m").replace("_", "-"): score for name, score in scores.items()}
    noise = np.linspace(-spread, spread, LIMITS.resamples)
    differences = {name: [*(by_name[champion] - score + noise)] for name, score in by_name.items() if name != champion}
    return Evaluation(rows=1000, scores=by_name, resampled_differences=differences)


def four_months() -> list[MonthResult]:
    """Return a promotion, a promotion, a wrong rejection and a month without a candidate."""
    first, second, third = "2020-01", "2020-02", "2020-03"
    fresh = Difference(value=0.02, low=0.01, high=0.03)
    return [
        MonthResult(run=make_run(first, "promoted", first), evaluation=evaluate(first, m2020_01=0.70)),
        MonthResult(
            run=make_run(second, "promoted", second, fresh_difference=fresh),
            evaluation=evaluate(second, m2020_01=0.70, m2020_02=0.75),
        ),
        MonthResult(
            run=make_run(third, "rejected", second),
            evaluation=evaluate(second, m2020_01=0.60, m2020_02=0.72, m2020_03=0.74),
        ),
        MonthResult(
            run=make_run("2020-04", "none", second, message="there were no rows"),
            evaluation=evaluate(second, m2020_01=0.78, m2020_02=0.71, m2020_03=0.71),
        ),
    ]


def result() -> ReplayResult:
    return compare_policies("toy", four_months(), LIMITS)


class TestMonths:
    def test_months_continue_in_the_next_year(self) -> None:
        months = month_range(parse_month("2013-11", "--from"), parse_month("2014-02", "--to"))
        assert [f"{month:%Y-%m-%d}" for month in months] == ["2013-11-01", "2013-12-01", "2014-01-01", "2014-02-01"]
        assert next_month(datetime(2013, 12, 1)) == datetime(2014, 1, 1)

    @pytest.mark.parametrize("text", ["2013-4", "2013-13", "2013-00", "April", "2013-04-01", ""])
    def test_an_invalid_month_is_rejected(self, text: str) -> None:
        with pytest.raises(UsageError, match="--from .*is not a month: write it as 2013-04"):
            parse_month(text, "--from")

    def test_an_invalid_month_is_an_error_of_one_line(self) -> None:
        command = [sys.executable, str(ROOT / "scripts/replay.py"), "--from", "2013-04", "--to", "2013-40"]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        assert process.returncode == 2
        assert process.stderr == "ct replay: error: --to 2013-40 is not a month: write it as 2013-04\n"
        assert process.stdout == ""


class TestArguments:
    def test_an_end_before_the_start_is_rejected(self, workspace: Path) -> None:
        with pytest.raises(UsageError, match="--from 2020-03 is after --to 2020-02"):
            loop.replay("toy", datetime(2020, 3, 1), datetime(2020, 2, 1))
        assert not (workspace / ".ct/replay").exists()

    def test_a_last_month_without_rows_is_rejected(self, workspace: Path) -> None:
        with pytest.raises(UserError, match=r"the warehouse has no rows of 2020-06 .*: choose an earlier --to"):
            loop.replay("toy", datetime(2020, 2, 1), datetime(2020, 6, 1))
        assert not (workspace / ".ct/replay").exists()

    def test_an_unfinished_last_month_is_rejected(self, workspace: Path) -> None:
        now = datetime.now()
        with pytest.raises(UsageError, match=r"cannot be evaluated before \d{4}-\d{2}-02: choose an earlier --to"):
            loop.replay("toy", datetime(2020, 2, 1), datetime(now.year, now.month, 1))
        assert not (workspace / ".ct/replay").exists()

    @pytest.mark.usefixtures("workspace")
    def test_an_unknown_model_is_rejected(self) -> None:
        with pytest.raises(UserError, match="MODEL=unknown"):
            loop.replay("unknown", datetime(2020, 2, 1), datetime(2020, 2, 1))


class TestPolicies:
    def test_never_keeps_the_first_champion_and_always_takes_every_candidate(self) -> None:
        champions = follow_policies([month.run for month in four_months()])
        assert [champion.never for champion in champions] == ["2020-01"] * 4
        assert [champion.always for champion in champions] == ["2020-01", "2020-02", "2020-03", "2020-03"]
        assert [champion.gate for champion in champions] == ["2020-01", "2020-02", "2020-02", "2020-02"]

    def test_a_month_without_a_candidate_changes_no_champion(self) -> None:
        before, after = follow_policies([month.run for month in four_months()])[-2:]
        assert (after.never, after.always, after.gate) == (before.never, before.always, before.gate)
        assert after.alternative is None
        assert score_months(four_months(), LIMITS)[-1].gain is None

    def test_hindsight_is_at_least_as_good_as_every_policy(self) -> None:
        for month in result().months:
            assert month.scores is not None
            assert month.scores.hindsight == max(month.scores.model_dump(exclude_none=True).values())
        assert result().months[-1].scores.hindsight == pytest.approx(0.78)

    def test_a_gate_that_promotes_every_candidate_equals_always(self) -> None:
        comparison = compare_policies("toy", four_months()[:2], LIMITS)
        assert comparison.means.gate == comparison.means.always
        assert comparison.over_always == Difference(value=0, low=0, high=0)
        assert comparison.over_always.outcome == "equal"

    def test_a_promotion_is_compared_with_the_old_champion_and_a_rejection_with_the_candidate(self) -> None:
        first, promotion, rejection, _ = result().months
        assert first.gain is None
        assert promotion.gain is not None
        assert (promotion.gain.value, promotion.gain.outcome) == (pytest.approx(0.05), "better")
        assert rejection.gain is not None
        assert (rejection.gain.value, rejection.gain.outcome) == (pytest.approx(-0.02), "worse")

    def test_a_mean_and_its_interval_are_over_the_months(self) -> None:
        advantage = result().over_always
        assert advantage.value == pytest.approx((0 + 0 - 0.02 + 0) / 4)
        # In two months of four the model differs from always; the sum of two uniform distributions is triangular
        end = 0.002 * (2 - np.sqrt(0.2)) / 4
        assert (advantage.low, advantage.high) == (
            pytest.approx(-0.005 - end, abs=4e-5),
            pytest.approx(-0.005 + end, abs=4e-5),
        )

    def test_months_before_the_first_champion_are_excluded(self) -> None:
        failed_month = MonthResult(run=make_run("2019-12", "rejected", None))
        comparison = compare_policies("toy", [failed_month, *four_months()], LIMITS)
        assert comparison.months[0].scores is None
        assert (comparison.means, comparison.over_never) == (result().means, result().over_never)

    def test_without_any_champion_the_error_has_the_reason(self) -> None:
        failed_month = MonthResult(run=make_run("2020-01", "none", None, message="check data failed: stale"))
        with pytest.raises(UserError, match="no month had a champion to evaluate: check data failed: stale"):
            compare_policies("toy", [failed_month], LIMITS)

    def test_resamples_without_a_score_give_no_interval(self) -> None:
        month = four_months()[1]
        assert month.evaluation is not None
        empty_evaluation = month.evaluation.model_copy(
            update={"resampled_differences": {"2020-01": [None] * LIMITS.resamples}}
        )
        gain = score_months([four_months()[0], month.model_copy(update={"evaluation": empty_evaluation})], LIMITS)[
            1
        ].gain
        assert gain is not None
        assert (gain.low, gain.high, gain.outcome) == (None, None, "uncertain")

    def test_a_stored_month_is_read_unchanged(self) -> None:
        for month in four_months():
            assert MonthResult.model_validate_json(month.model_dump_json()) == month


class TestEvaluation:
    def test_every_model_is_scored_on_the_rows_of_the_month(
        self, monkeypatch: pytest.MonkeyPatch, mlflow_workspace: Path
    ) -> None:
        change("resamples: 200", "resamples: 300")
        months = []
        for as_of, penalty in (("2020-02-01", "C: 1.0"), ("2020-03-01", "C: 1.0e-4")):
            change("C: 1.0", penalty)
            run = Pipeline(monkeypatch, AS_OF=as_of)
            run.run.write()
            version = run.promote(compare=False)
            candidate = TrainedModel(run_id=run.candidate.run_id, uri=run.candidate.model_uri)
            month = make_run(as_of[:7], "promoted", version.run_id).model_copy(update={"candidate": candidate})
            months.append(month)
        evaluation = evaluate_models(run.settings, months)

        with duckdb.connect(str(mlflow_workspace / ".ct/warehouse.duckdb"), read_only=True) as warehouse:
            march = warehouse.execute("FROM events WHERE seen >= '2020-03-01' AND seen < '2020-04-01'").df()
        assert evaluation is not None
        assert evaluation.rows == len(march)
        for month in months:
            assert month.candidate is not None
            estimator = load_estimator(month.candidate.uri)
            expected = roc_auc_score(march["late"], estimator.predict_proba(march[["shade", "x", "y"]])[:, 1])
            assert evaluation.scores[month.candidate.run_id] == pytest.approx(expected)
        old, new = (str(month.champion) for month in months)
        assert set(evaluation.resampled_differences) == {old}
        assert len(evaluation.resampled_differences[old]) == 300
        assert np.mean(np.array(evaluation.resampled_differences[old])) == pytest.approx(
            evaluation.scores[new] - evaluation.scores[old], abs=0.01
        )

    def test_without_a_champion_nothing_is_evaluated(self, workspace: Path) -> None:
        assert (workspace / "src/toy").exists()
        assert evaluate_models(load_settings("toy"), [make_run("2020-02", "rejected", None)]) is None


class TestWorkspace:
    ADDRESS = "duckdb:///somewhere/warehouse.duckdb"

    def replay_id(self, model: str = "toy", month: int = 2, url: str = ADDRESS) -> str:
        return workspace.replay_id(model, datetime(2020, month, 1), url)

    @pytest.mark.usefixtures("workspace")
    def test_other_code_data_or_a_first_month_is_another_replay(self) -> None:
        before = self.replay_id()
        assert self.replay_id() == before
        assert self.replay_id(month=3) != before
        assert self.replay_id(url="duckdb:///elsewhere.duckdb") != before
        change("C: 1.0", "C: 2.0")
        assert self.replay_id() != before
        change("C: 2.0", "C: 1.0")
        assert self.replay_id() == before
        change("ignore", "infrequent_if_exist", Path("src/toy/model.py"))
        assert self.replay_id() != before

    @pytest.mark.usefixtures("workspace")
    def test_the_environment_and_the_folder_are_restored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        before = (Path.cwd(), dict(os.environ))
        with workspace.enter_workspace("toy", "abc", self.ADDRESS, fresh=False) as folder:
            assert Path.cwd() == folder
            assert "MLFLOW_TRACKING_URI" not in os.environ
            assert connection.tracking_uri() == f"sqlite:///{folder}/.ct/mlflow.db"
            assert Path("src/toy/training.yaml").exists()
        assert (Path.cwd(), dict(os.environ)) == before

    @pytest.mark.usefixtures("workspace")
    def test_a_second_process_is_rejected(self) -> None:
        folder = str(Path(".ct/replay/abc").resolve())
        with (
            workspace.enter_workspace("toy", folder, self.ADDRESS, fresh=False),
            pytest.raises(UserError, match="this replay is already running"),
            workspace.enter_workspace("toy", folder, self.ADDRESS, fresh=False),
        ):
            pass

    @pytest.mark.usefixtures("workspace")
    def test_processes_of_a_killed_replay_are_ended(self) -> None:
        folder = Path(".ct/replay/abc").resolve()
        orphan = subprocess.Popen(["sleep", "600"], env=os.environ | {workspace.MARKER: str(folder)})
        with workspace.enter_workspace("toy", "abc", self.ADDRESS, fresh=False):
            assert orphan.wait(timeout=TIMEOUT) != 0

    @pytest.mark.usefixtures("workspace")
    def test_finished_months_are_reused_unless_fresh_is_set(self) -> None:
        with workspace.enter_workspace("toy", "abc", self.ADDRESS, fresh=False):
            workspace.restore_database(None)
            workspace.save_month(four_months()[0])
        with workspace.enter_workspace("toy", "abc", self.ADDRESS, fresh=False):
            assert workspace.read_months() == {"2020-01": four_months()[0]}
        with workspace.enter_workspace("toy", "abc", self.ADDRESS, fresh=True):
            assert workspace.read_months() == {}

    @pytest.mark.usefixtures("mlflow_workspace")
    def test_the_database_is_reset_to_the_end_of_the_last_finished_month(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = Pipeline(monkeypatch, AS_OF="2020-02-01").promote()
        workspace.save_month(four_months()[0])
        run = Pipeline(monkeypatch, AS_OF="2020-03-01")
        assert run.promote(compare=False) != first
        workspace.restore_database("2020-01")
        assert model_versions.by_alias(connection.open_client(), "toy", model_versions.CHAMPION) == first
        assert run.make_plan().reason == "this fingerprint has not been trained"


class TestSummary:
    def test_a_month_is_one_line(self) -> None:
        lines = [summary.describe_month(month, LIMITS.metric) for month in score_months(four_months(), LIMITS)]
        fresh = "+0.0200 (+0.0100 to +0.0300)"
        assert lines == [
            "2020-01: promoted; January 0.7000",
            f"2020-02: promoted, fresh {fresh}; February 0.7500, the old champion would have had 0.7000",
            "2020-03: rejected; March 0.7200, the candidate would have had 0.7400",
            "2020-04: no candidate, there were no rows; April 0.7100",
        ]

    @pytest.mark.parametrize(
        ("low", "high", "sentence"),
        [
            (
                0.001,
                0.003,
                "is significantly better than always promoting the newest: +0.0020 (+0.0010 to +0.0030) roc_auc on",
            ),
            (-0.001, 0.005, "ties with always promoting the newest: +0.0020 (−0.0010 to +0.0050) roc_auc on average"),
            (-0.003, -0.001, "is significantly worse than always promoting the newest: +0.0020 (−0.0030 to −0.0010)"),
        ],
    )
    def test_the_interval_decides_whether_the_gate_is_better_than_a_policy(
        self, low: float, high: float, sentence: str
    ) -> None:
        over = Difference(value=0.002, low=low, high=high)
        sentences = summary.summarize(result().model_copy(update={"over_always": over}))
        assert f"The gate {sentence}" in sentences[0]
        assert "with 95% confidence" in sentences[0]

    def test_a_gate_that_promotes_every_candidate_is_equal_and_could_not_be_better(self) -> None:
        sentences = summary.summarize(compare_policies("toy", four_months()[:2], LIMITS))
        assert sentences[0] == "The gate equals always promoting the newest: the score was the same in every month."
        assert sentences[-1].endswith("no gate could have gained anything over always promoting the newest.")

    @pytest.mark.parametrize(
        ("value", "low", "high", "text"),
        [
            (0.000004, -0.0004, 0.0004, "+0.0000 (−0.0004 to +0.0004)"),
            (0.0315, 0.00001, 0.0331, "+0.0315 (+0.0000 to +0.0331)"),
            (0.000004, 0.000003, 0.000005, "+4.0e−06 (+3.0e−06 to +5.0e−06)"),
            (-1250.0, -1300.4, -1200.0, "−1,250 (−1,300 to −1,200)"),
        ],
    )
    def test_a_difference_has_as_many_digits_as_its_interval(
        self, value: float, low: float, high: float, text: str
    ) -> None:
        assert summary.format_difference(Difference(value=value, low=low, high=high)) == text

    def test_decisions_are_counted_by_their_effect(self) -> None:
        sentences = summary.summarize(result())
        assert "Of 1 promotion against a champion, 1 significantly gained." in sentences
        assert "Of 1 rejection against a champion, 1 significantly cost." in sentences

    def test_the_last_sentence_is_the_most_that_a_gate_could_have_gained(self) -> None:
        assert "would have had +0.0175 over always promoting the newest" in summary.summarize(result())[-1]


def test_the_table_has_a_row_for_each_month_their_means_and_the_sentences() -> None:
    lines = format_table(result()).splitlines()
    assert lines[:6] == [
        "month    never   always  gate    hindsight  decision  gain or cost",
        "2020-01  0.7000  0.7000  0.7000  0.7000     promoted",
        "2020-02  0.7000  0.7500  0.7500  0.7500     promoted  +0.0500 (+0.0481 to +0.0519)",
        "2020-03  0.6000  0.7400  0.7200  0.7400     rejected  −0.0200 (−0.0219 to −0.0181)",
        "2020-04  0.7800  0.7100  0.7100  0.7800     none",
        "mean     0.6950  0.7250  0.7200  0.7425",
    ]
    assert lines[7:] == summary.summarize(result())


def test_errors_are_positive_in_the_table_the_page_and_the_log() -> None:
    scores = score_months(four_months(), LIMITS)[1].scores
    assert scores
    errors = scores.model_copy(update={"never": -65.2, "always": -60.7, "gate": -60.7, "hindsight": -60.7})
    month = score_months(four_months(), LIMITS)[1].model_copy(update={"scores": errors})
    metric = "neg_mean_absolute_error"
    replayed = result().model_copy(update={"metric": metric, "months": [month]})
    assert format_table(replayed).splitlines()[1].startswith("2020-02  65.20    60.70    60.70    60.70      promoted")
    assert "mean_absolute_error on average" in summary.summarize(replayed.model_copy(update={"months": [month] * 2}))[0]
    html = page.render_page(replayed)
    assert "; lower is better." in html
    assert "neg_" not in html
    assert "February 60.70, the old champion would have had 60.75" in summary.describe_month(month, metric)


class ParsedPage(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


class TestPage:
    def test_the_page_has_every_month_with_its_decision_and_reason(self) -> None:
        text = " ".join(ParsedPage(page.render_page(result())).text.split())
        for month in four_months():
            assert month.run.month in text
        assert "No candidate: there were no rows." in text
        assert "In that month this cost −0.0200 (−0.0219 to −0.0181)." in text
        for sentence in summary.summarize(result()):
            assert sentence in text

    def test_the_page_has_no_scripts_and_no_external_resources_and_escapes_messages(self) -> None:
        hostile = make_run("2020-05", "none", "2020-02", message="<script>alert('x')</script>")
        months = [*four_months(), MonthResult(run=hostile, evaluation=four_months()[-1].evaluation)]
        parsed_page = ParsedPage(page.render_page(compare_policies("toy", months, LIMITS)))
        assert "<script>alert('x')</script>" in parsed_page.text
        assert not parsed_page.tags & {"script", "img", "iframe", "object"}
        references = [value for name, value in parsed_page.attributes if name in {"src", "href", "xlink:href"}]
        assert all(value.startswith(("#", "data:")) for value in references)
        assert not [name for name, _ in parsed_page.attributes if name == "style" or name.startswith("on")]

    def test_every_reference_in_the_plot_has_one_target(self) -> None:
        parsed_page = ParsedPage(page.render_page(result()))
        ids = [value for name, value in parsed_page.attributes if name == "id"]
        references = {value[1:] for name, value in parsed_page.attributes if name == "xlink:href"}
        assert references
        assert references <= set(ids)
        assert len(ids) == len(set(ids))

    def test_a_month_without_a_champion_is_a_gap_in_the_plot(self) -> None:
        comparison = compare_policies(
            "toy", [MonthResult(run=make_run("2019-12", "rejected", None)), *four_months()], LIMITS
        )
        scores = page.plot(comparison).axes[0]
        assert all(np.isnan(line.get_ydata()[0]) for line in scores.lines)
        assert "–" in page.render_page(comparison)

    def test_the_page_and_the_image_are_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        paths = page.write_page(result())
        assert [path.as_posix() for path in paths] == ["build/replay.html", "build/replay.png"]
        assert paths[1].read_bytes().startswith(b"\x89PNG")
        assert sorted(path.name for path in Path("build").iterdir()) == ["replay.html", "replay.png"]
