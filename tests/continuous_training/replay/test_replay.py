"""The replay: what each policy had in production, what a decision gained or cost, and how that is told."""

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

from continuous_training.errors import UsageError, UserError
from continuous_training.registry import connection, model_versions
from continuous_training.replay import loop, page, workspace
from continuous_training.replay import summary as words
from continuous_training.replay.evaluation import judge
from continuous_training.replay.months import Difference, Judged, Made, Model, Month, between, following, parse
from continuous_training.replay.policies import Result, compare, lines, productions
from continuous_training.replay.table import table
from continuous_training.settings import Compare, load_settings
from continuous_training.versions import loading
from pipeline import Pipeline
from toy import change

ROOT = Path(__file__).parents[3]
LIMITS = Compare(metric="roc_auc", resamples=2000, first={"roc_auc": 0.6})


def made(
    month: str,
    decision: Literal["promoted", "rejected", "none"],
    champion: str | None,
    *,
    message: str = "because",
    fresh: Difference | None = None,
) -> Made:
    """Make a month; its candidate, if it has one, is called as the month is."""
    candidate = None if decision == "none" else Model(run_id=month, uri=f"models:/{month}")
    return Made(
        month=month,
        decision=decision,
        message=message,
        candidate=candidate,
        champion=champion,
        fresh=fresh,
        log="a.log",
    )


def judged(champion: str, spread: float = 0.002, **scores: float) -> Judged:
    """Judge models, named `m2020_01`; the resamples lie evenly around each difference."""
    named = {name.removeprefix("m").replace("_", "-"): score for name, score in scores.items()}
    noise = np.linspace(-spread, spread, LIMITS.resamples)
    draws = {name: [*(named[champion] - score + noise)] for name, score in named.items() if name != champion}
    return Judged(rows=1000, scores=named, draws=draws)


def a_year_of_four() -> list[Month]:
    """Promote, promote, reject wrongly, find no candidate."""
    first, second, third = "2020-01", "2020-02", "2020-03"
    fresh = Difference(value=0.02, low=0.01, high=0.03)
    return [
        Month(made=made(first, "promoted", first), judged=judged(first, m2020_01=0.70)),
        Month(made=made(second, "promoted", second, fresh=fresh), judged=judged(second, m2020_01=0.70, m2020_02=0.75)),
        Month(made=made(third, "rejected", second), judged=judged(second, m2020_01=0.60, m2020_02=0.72, m2020_03=0.74)),
        Month(
            made=made("2020-04", "none", second, message="there were no rows"),
            judged=judged(second, m2020_01=0.78, m2020_02=0.71, m2020_03=0.71),
        ),
    ]


def result() -> Result:
    return compare("toy", a_year_of_four(), LIMITS)


class TestMonths:
    def test_they_run_over_the_end_of_a_year(self) -> None:
        found = between(parse("2013-11", "--from"), parse("2014-02", "--to"))
        assert [f"{month:%Y-%m-%d}" for month in found] == ["2013-11-01", "2013-12-01", "2014-01-01", "2014-02-01"]
        assert following(datetime(2013, 12, 1)) == datetime(2014, 1, 1)

    @pytest.mark.parametrize("text", ["2013-4", "2013-13", "2013-00", "April", "2013-04-01", ""])
    def test_what_is_no_month_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match=f"--from {text} is not a month: write it as 2013-04"):
            parse(text, "--from")

    def test_a_wrong_month_ends_in_one_line(self) -> None:
        command = [sys.executable, str(ROOT / "scripts/replay.py"), "--from", "2013-04", "--to", "2013-40"]
        failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert failed.returncode == 2
        assert failed.stderr == "ct replay: error: --to 2013-40 is not a month: write it as 2013-04\n"
        assert failed.stdout == ""


class TestBeforeAnythingRuns:
    def test_an_end_before_the_beginning_is_refused(self, workspace: Path) -> None:
        with pytest.raises(UsageError, match="--from 2020-03 is after --to 2020-02"):
            loop.replay("toy", datetime(2020, 3, 1), datetime(2020, 2, 1))
        assert not (workspace / ".ct/replay").exists()

    def test_a_last_month_without_rows_is_refused(self, workspace: Path) -> None:
        with pytest.raises(UserError, match=r"there are no rows of 2020-06 to judge .*: choose an earlier --to"):
            loop.replay("toy", datetime(2020, 2, 1), datetime(2020, 6, 1))
        assert not (workspace / ".ct/replay").exists()

    def test_a_month_that_is_not_over_is_refused(self, workspace: Path) -> None:
        now = datetime.now()
        with pytest.raises(UsageError, match=r"cannot be judged before \d{4}-\d{2}-02: choose an earlier --to"):
            loop.replay("toy", datetime(2020, 2, 1), datetime(now.year, now.month, 1))
        assert not (workspace / ".ct/replay").exists()

    @pytest.mark.usefixtures("workspace")
    def test_a_model_that_is_not_there_is_named(self) -> None:
        with pytest.raises(UserError, match="MODEL=nobody"):
            loop.replay("nobody", datetime(2020, 2, 1), datetime(2020, 2, 1))


class TestPolicies:
    def test_never_keeps_the_first_champion_and_always_takes_every_candidate(self) -> None:
        found = productions([month.made for month in a_year_of_four()])
        assert [one.never for one in found] == ["2020-01"] * 4
        assert [one.always for one in found] == ["2020-01", "2020-02", "2020-03", "2020-03"]
        assert [one.gate for one in found] == ["2020-01", "2020-02", "2020-02", "2020-02"]

    def test_a_month_without_a_candidate_leaves_everybody_as_they_were(self) -> None:
        before, after = productions([month.made for month in a_year_of_four()])[-2:]
        assert (after.never, after.always, after.gate) == (before.never, before.always, before.gate)
        assert after.other is None
        assert lines(a_year_of_four(), LIMITS)[-1].gain is None

    def test_hindsight_is_at_least_as_good_as_every_policy(self) -> None:
        for line in result().lines:
            assert line.scores is not None
            assert line.scores.hindsight == max(line.scores.model_dump(exclude_none=True).values())
        assert result().lines[-1].scores.hindsight == pytest.approx(0.78)

    def test_a_gate_that_promotes_all_is_the_same_as_always(self) -> None:
        found = compare("toy", a_year_of_four()[:2], LIMITS)
        assert found.means.gate == found.means.always
        assert found.over_always == Difference(value=0, low=0, high=0)
        assert found.over_always.found == "equal"

    def test_a_promotion_is_held_against_the_old_champion_and_a_rejection_against_the_candidate(self) -> None:
        first, promoted, rejected, _ = result().lines
        assert first.gain is None
        assert promoted.gain is not None
        assert (promoted.gain.value, promoted.gain.found) == (pytest.approx(0.05), "better")
        assert rejected.gain is not None
        assert (rejected.gain.value, rejected.gain.found) == (pytest.approx(-0.02), "worse")

    def test_a_mean_is_over_the_months_and_so_is_its_interval(self) -> None:
        found = result().over_always
        assert found.value == pytest.approx((0 + 0 - 0.02 + 0) / 4)
        # Two months of four have another model than always; sums of two even spreads thin out towards their ends
        end = 0.002 * (2 - np.sqrt(0.2)) / 4
        assert (found.low, found.high) == (pytest.approx(-0.005 - end, abs=4e-5), pytest.approx(-0.005 + end, abs=4e-5))

    def test_months_before_the_first_champion_are_left_out(self) -> None:
        failed = Month(made=made("2019-12", "rejected", None))
        found = compare("toy", [failed, *a_year_of_four()], LIMITS)
        assert found.lines[0].scores is None
        assert (found.means, found.over_never) == (result().means, result().over_never)

    def test_without_any_champion_the_reason_is_named(self) -> None:
        failed = Month(made=made("2020-01", "none", None, message="check data failed: stale"))
        with pytest.raises(UserError, match="no month had a champion to judge, for check data failed: stale"):
            compare("toy", [failed], LIMITS)

    def test_resamples_that_have_no_score_give_no_interval_rather_than_a_guess(self) -> None:
        month = a_year_of_four()[1]
        assert month.judged is not None
        undefined = month.judged.model_copy(update={"draws": {"2020-01": [None] * LIMITS.resamples}})
        gain = lines([a_year_of_four()[0], month.model_copy(update={"judged": undefined})], LIMITS)[1].gain
        assert gain is not None
        assert (gain.low, gain.high, gain.found) == (None, None, "unsure")

    def test_a_month_that_was_kept_is_read_as_it_was(self) -> None:
        for month in a_year_of_four():
            assert Month.model_validate_json(month.model_dump_json()) == month


class TestJudge:
    def test_it_asks_every_model_about_the_rows_of_the_month_and_no_others(
        self, monkeypatch: pytest.MonkeyPatch, tracked: Path
    ) -> None:
        change("resamples: 200", "resamples: 300")
        months = []
        for as_of, penalty in (("2020-02-01", "C: 1.0"), ("2020-03-01", "C: 1.0e-4")):
            change("C: 1.0", penalty)
            run = Pipeline(monkeypatch, AS_OF=as_of)
            run.run.write()
            version = run.promote(compare=False)
            candidate = Model(run_id=run.candidate.run_id, uri=run.candidate.model_uri)
            month = made(as_of[:7], "promoted", version.run_id).model_copy(update={"candidate": candidate})
            months.append(month)
        found = judge(run.settings, months)

        with duckdb.connect(str(tracked / ".ct/warehouse.duckdb"), read_only=True) as warehouse:
            march = warehouse.execute("FROM events WHERE seen >= '2020-03-01' AND seen < '2020-04-01'").df()
        assert found is not None
        assert found.rows == len(march)
        for month in months:
            assert month.candidate is not None
            estimator = loading.load(month.candidate.uri, run.settings.model.trusted_types)
            expected = roc_auc_score(march["late"], estimator.predict_proba(march[["shade", "x", "y"]])[:, 1])
            assert found.scores[month.candidate.run_id] == pytest.approx(expected)
        old, new = (str(month.champion) for month in months)
        assert set(found.draws) == {old}
        assert len(found.draws[old]) == 300
        assert np.mean(np.array(found.draws[old])) == pytest.approx(found.scores[new] - found.scores[old], abs=0.01)

    def test_nothing_is_judged_while_there_is_no_champion(self, workspace: Path) -> None:
        assert (workspace / "src/toy").exists()
        assert judge(load_settings("toy"), [made("2020-02", "rejected", None)]) is None


class TestWorkspace:
    ADDRESS = "duckdb:///somewhere/warehouse.duckdb"

    def identity(self, model: str = "toy", month: int = 2, url: str = ADDRESS) -> str:
        return workspace.identity(model, datetime(2020, month, 1), url)

    @pytest.mark.usefixtures("workspace")
    def test_other_code_data_or_months_are_another_replay(self) -> None:
        before = self.identity()
        assert self.identity() == before
        assert self.identity(month=3) != before
        assert self.identity(url="duckdb:///elsewhere.duckdb") != before
        change("C: 1.0", "C: 2.0")
        assert self.identity() != before
        change("C: 2.0", "C: 1.0")
        assert self.identity() == before
        change("ignore", "infrequent_if_exist", Path("src/toy/model.py"))
        assert self.identity() != before

    @pytest.mark.usefixtures("workspace")
    def test_the_users_environment_and_folder_come_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        before = (Path.cwd(), dict(os.environ))
        with workspace.entered("toy", "abc", self.ADDRESS, fresh=False) as folder:
            assert Path.cwd() == folder
            assert "MLFLOW_TRACKING_URI" not in os.environ
            assert connection.tracking_uri() == f"sqlite:///{folder}/.ct/mlflow.db"
            assert Path("src/toy/training.yaml").exists()
        assert (Path.cwd(), dict(os.environ)) == before

    @pytest.mark.usefixtures("workspace")
    def test_two_cannot_be_in_it_at_once(self) -> None:
        folder = str(Path(".ct/replay/abc").resolve())
        with (
            workspace.entered("toy", folder, self.ADDRESS, fresh=False),
            pytest.raises(UserError, match="this replay runs already"),
            workspace.entered("toy", folder, self.ADDRESS, fresh=False),
        ):
            pass

    @pytest.mark.usefixtures("workspace")
    def test_what_was_left_running_there_is_ended(self) -> None:
        folder = Path(".ct/replay/abc").resolve()
        orphan = subprocess.Popen(["sleep", "600"], env=os.environ | {workspace.COOKIE: str(folder)})
        with workspace.entered("toy", "abc", self.ADDRESS, fresh=False):
            assert orphan.wait(timeout=60) != 0

    @pytest.mark.usefixtures("workspace")
    def test_fresh_forgets_the_months_and_otherwise_they_are_kept(self) -> None:
        with workspace.entered("toy", "abc", self.ADDRESS, fresh=False):
            workspace.restore(None)
            workspace.keep(a_year_of_four()[0])
        with workspace.entered("toy", "abc", self.ADDRESS, fresh=False):
            assert workspace.finished() == {"2020-01": a_year_of_four()[0]}
        with workspace.entered("toy", "abc", self.ADDRESS, fresh=True):
            assert workspace.finished() == {}

    @pytest.mark.usefixtures("tracked")
    def test_mlflow_goes_back_to_the_end_of_the_last_finished_month(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = Pipeline(monkeypatch, AS_OF="2020-02-01").promote()
        workspace.keep(a_year_of_four()[0])
        run = Pipeline(monkeypatch, AS_OF="2020-03-01")
        assert run.promote(compare=False) != first
        workspace.restore("2020-01")
        assert model_versions.by_alias(connection.open_client(), "toy", model_versions.CHAMPION) == first
        assert run.make_plan().reason == "this fingerprint was never trained"


class TestWords:
    def test_a_month_is_told_in_one_line(self) -> None:
        told = [words.told(line) for line in lines(a_year_of_four(), LIMITS)]
        fresh = "+0.0200 (+0.0100 to +0.0300)"
        assert told == [
            "2020-01: promoted; January 0.7000",
            f"2020-02: promoted, fresh {fresh}; February 0.7500, the old champion would have had 0.7000",
            "2020-03: rejected; March 0.7200, the candidate would have had 0.7400",
            "2020-04: no candidate, there were no rows; April 0.7100",
        ]

    @pytest.mark.parametrize(
        ("low", "high", "message"),
        [
            (0.001, 0.003, "surely beats always promoting the newest: +0.0020 (+0.0010 to +0.0030) roc_auc on average"),
            (-0.001, 0.005, "ties with always promoting the newest: +0.0020 (−0.0010 to +0.0050) roc_auc on average"),
            (-0.003, -0.001, "surely loses to always promoting the newest: +0.0020 (−0.0030 to −0.0010)"),
        ],
    )
    def test_the_interval_decides_whether_the_gate_beats_a_policy(self, low: float, high: float, message: str) -> None:
        over = Difference(value=0.002, low=low, high=high)
        sentences = words.sentences(result().model_copy(update={"over_always": over}))
        assert f"The gate {message}" in sentences[0]
        assert "with 95% confidence" in sentences[0]

    def test_it_says_plainly_that_a_gate_which_promotes_all_is_no_better_and_could_not_be(self) -> None:
        sentences = words.sentences(compare("toy", a_year_of_four()[:2], LIMITS))
        assert sentences[0] == "The gate is the same as always promoting the newest: it scored the same in every month."
        assert sentences[-1].endswith("no gate could have gained anything over promoting it.")

    @pytest.mark.parametrize(
        ("value", "low", "high", "message"),
        [
            (0.000004, -0.0004, 0.0004, "+0.0000 (−0.0004 to +0.0004)"),
            (0.0315, 0.00001, 0.0331, "+0.0315 (+0.0000 to +0.0331)"),
            (0.000004, 0.000003, 0.000005, "+4.0e−06 (+3.0e−06 to +5.0e−06)"),
            (-1250.0, -1300.4, -1200.0, "−1,250 (−1,300 to −1,200)"),
        ],
    )
    def test_a_difference_has_the_digits_that_its_interval_is_worth(
        self, value: float, low: float, high: float, message: str
    ) -> None:
        assert words.difference(Difference(value=value, low=low, high=high)) == message

    def test_decisions_are_counted_by_what_became_of_them(self) -> None:
        sentences = words.sentences(result())
        assert "Of 1 promotion against a champion, 1 surely gained." in sentences
        assert "Of 1 rejection against a champion, 1 surely cost." in sentences

    def test_the_most_that_any_gate_could_have_gained_is_said(self) -> None:
        assert "would have had +0.0175 over always promoting the newest" in words.sentences(result())[-1]


def test_the_table_has_a_row_for_each_month_their_means_and_the_sentences() -> None:
    shown = table(result()).splitlines()
    assert shown[:6] == [
        "month    never   always  gate    hindsight  decision  gain or cost",
        "2020-01  0.7000  0.7000  0.7000  0.7000     promoted",
        "2020-02  0.7000  0.7500  0.7500  0.7500     promoted  +0.0500 (+0.0481 to +0.0519)",
        "2020-03  0.6000  0.7400  0.7200  0.7400     rejected  −0.0200 (−0.0219 to −0.0181)",
        "2020-04  0.7800  0.7100  0.7100  0.7800     none",
        "mean     0.6950  0.7250  0.7200  0.7425",
    ]
    assert shown[7:] == words.sentences(result())


class _Looked(HTMLParser):
    """What a browser would find in a page."""

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
    def test_it_shows_every_month_and_why_it_was_decided_so(self) -> None:
        text = " ".join(_Looked(page.render(result())).text.split())
        for month in a_year_of_four():
            assert month.made.month in text
        assert "No candidate: there were no rows." in text
        assert "In the month itself this cost −0.0200 (−0.0219 to −0.0181)." in text
        for sentence in words.sentences(result()):
            assert sentence in text

    def test_it_runs_no_script_asks_nobody_and_says_what_it_was_told_as_text(self) -> None:
        hostile = made("2020-05", "none", "2020-02", message="<script>alert('x')</script>")
        months = [*a_year_of_four(), Month(made=hostile, judged=a_year_of_four()[-1].judged)]
        looked = _Looked(page.render(compare("toy", months, LIMITS)))
        assert "<script>alert('x')</script>" in looked.text
        assert not looked.tags & {"script", "img", "iframe", "object"}
        loaded = [value for name, value in looked.attributes if name in {"src", "href", "xlink:href"}]
        assert all(value.startswith(("#", "data:")) for value in loaded)
        assert not [name for name, _ in looked.attributes if name == "style" or name.startswith("on")]

    def test_what_the_drawing_refers_to_is_there_once(self) -> None:
        looked = _Looked(page.render(result()))
        ids = [value for name, value in looked.attributes if name == "id"]
        asked = {value[1:] for name, value in looked.attributes if name == "xlink:href"}
        assert asked
        assert asked <= set(ids)
        assert len(ids) == len(set(ids))

    def test_a_month_without_a_champion_is_a_gap_and_no_zero(self) -> None:
        found = compare("toy", [Month(made=made("2019-12", "rejected", None)), *a_year_of_four()], LIMITS)
        above = page.figure(found).axes[0]
        assert all(np.isnan(line.get_ydata()[0]) for line in above.lines)
        assert "–" in page.render(found)

    def test_the_page_and_the_picture_are_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        written = page.write(result())
        assert [path.as_posix() for path in written] == ["build/replay.html", "build/replay.png"]
        assert written[1].read_bytes().startswith(b"\x89PNG")
        assert sorted(path.name for path in Path("build").iterdir()) == ["replay.html", "replay.png"]
