"""The report: its headline, its sections, and a page without scripts and external resources."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from continuous_training import formatting
from continuous_training.comparison import rules
from continuous_training.documents import (
    Candidate,
    Check,
    Confusion,
    CorrelatedFeatures,
    Curve,
    DataCheck,
    Deployment,
    Document,
    FeatureImportance,
    Hold,
    HoldStatus,
    Importance,
    Lint,
    Metric,
    ModelCheck,
    Plan,
    Refit,
    Registration,
    Rollback,
    Rule,
    Run,
    Snapshot,
    SnapshotFile,
    Tool,
    Verdict,
)
from continuous_training.documents import Tests as Counts
from continuous_training.reports import page as report

ROOT = Path(__file__).parents[3]
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>&"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def timing(second: float, seconds: float = 1.0) -> dict:
    """Return the timing of a document whose stage started after so many seconds of the run."""
    start = datetime(2020, 3, 1, 2, tzinfo=UTC) + timedelta(seconds=second)
    return {"build_tag": "ct-1", "started": start, "seconds": seconds}


def make_run(**changes: object) -> Run:
    fields = {
        "model": "toy",
        "as_of": datetime(2020, 3, 1),
        "compute": "local",
        "force": False,
        "promote": "auto",
        "trigger": "cron",
        "reason": "",
        "branch": "main",
        "commit": "c0ffee",
        "build_url": "https://jenkins.example.com/job/toy/1/",
        "lock": "10c4",
        "python": "3.11.7",
    }
    return Run.model_validate(timing(0) | fields | changes)


def make_lint(*failing: str) -> Lint:
    tools = [
        Tool(name=name, command=f"{name} .", passed=name not in failing, output=f"{name} output")
        for name in ("ruff", "mypy")
    ]
    return Lint(tools=tools, **timing(1))


def make_counts(*failures: str) -> Counts:
    return Counts(passed=40, failed=len(failures), skipped=2, failures=[*failures], **timing(1, 3))


def make_snapshot() -> Snapshot:
    return Snapshot(
        hash="5a4b",
        train=SnapshotFile(path=Path("train.parquet"), sha256="1", rows=50_791),
        fresh=SnapshotFile(path=Path("fresh.parquet"), sha256="2", rows=1_234),
        since=datetime(2019, 3, 1),
        fresh_since=datetime(2020, 2, 1),
        until=datetime(2020, 2, 28),
        newest=datetime(2020, 2, 27, 23),
        columns={"seats": "double"},
        **timing(5),
    )


def make_data_check(*failing: Check) -> DataCheck:
    passing = Check(name="values", column="carrier", passed=True, message="16 values")
    return DataCheck(checks=[passing, *failing], **timing(6))


def make_plan(decision: str = "train", reason: str = "this fingerprint has not been trained") -> Plan:
    return Plan(decision=decision, reason=reason, fingerprint="f19e", parts={"source": "50c3"}, **timing(7))


def make_candidate() -> Candidate:
    metrics = {"fit_seconds": 2.5}
    return Candidate(run_id="m1f10", model_uri="models:/m-1", fingerprint="f19e", metrics=metrics, **timing(8))


def make_verdict(decision: str = "promote", champion: str | None = "2", **changes: object) -> Verdict:
    is_better = decision == "promote"
    interval = (0.002, 0.01) if is_better else (-0.004, 0.003)
    secondary = Metric(name="neg_log_loss", candidate=-0.4712, champion=-0.4815 if champion else None)
    primary = Metric(
        name="roc_auc",
        candidate=0.7470,
        champion=0.7410 if champion else None,
        difference=interval if champion else None,
        margin=0.001 if champion else None,
    )
    rule = Rule(name="roc_auc improves", passed=is_better, value=interval[0], limit=0.001, message="the rule's message")
    fields = {
        "decision": decision,
        "message": "the verdict's message",
        "champion": champion,
        "fresh_rows": 1_234,
        "confidence": 0.95,
        "metrics": [primary, secondary],
        "rules": [rule],
        "curves": [],
    }
    return Verdict.model_validate(timing(9) | fields | changes)


def make_registration(decision: str = "promote", hold: Hold | None = None) -> Registration:
    return Registration(name="toy", model_version="3", decision=decision, hold=hold, **timing(10))


def make_refit(decision: str = "refit", message: str = "the recipe on all 52,025 rows", *results: Rule) -> Refit:
    fields = {"decision": decision, "message": message, "model_uri": "models:/m-2", "run_id": "m2", "rules": results}
    return Refit.model_validate(timing(9.5) | fields | {"trained_until": datetime(2020, 2, 28)})


def make_deployment(previous: str | None = "2") -> Deployment:
    return Deployment(
        name="toy",
        model_version="3",
        previous_version=previous,
        servers=["http://a:8000"],
        golden_predictions=20,
        canary=Deployment.Observation(requests=900, error_share=0.001, milliseconds=20.5, rows=900, agreement=0.97),
        **timing(3600),
    )


def make_rollback() -> Rollback:
    return Rollback(
        name="toy",
        model_version="2",
        rolled_back_version="3",
        reason="it says yes to all",
        servers=["http://a:8000"],
        **timing(2),
    )


HOLD = Hold(reason="it lies", by=None, since=datetime(2020, 2, 29, 12, tzinfo=UTC), until=None)
HELD = "toy is on hold since 29 February 2020, 12:00 UTC because it lies"
UP_TO_PLAN = (make_run(), make_lint(), make_counts(), make_snapshot(), make_data_check(), make_plan())
UP_TO_TRAIN = (*UP_TO_PLAN, make_candidate())
MODEL_CHECK = ModelCheck(checks=[Check(name="an evening is later", passed=True, message="")], **timing(8.5))
CURVES = [
    Curve(kind=kind, model=model, x=[0.0, 0.1, 0.62], y=[0.0, 0.3, 0.65])
    for kind in ("roc", "calibration")
    for model in ("candidate", "champion")
]
COMPLETE_RUN = (*UP_TO_TRAIN, make_verdict(curves=CURVES), make_registration(), make_deployment())


def page(*documents: Document) -> str:
    for document in documents:
        document.write()
    return report.write().read_text(encoding="utf-8")


def text(html: str) -> str:
    """Return the visible text of a page, in one line."""
    visible = re.sub(r"<(style|title)>.*?</\1>", "", html, flags=re.DOTALL).replace("<wbr>", "")
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", visible)).split())


def headline(html: str) -> str:
    return text(re.findall(r"<h1>.*?</h1>", html, flags=re.DOTALL)[0])


def section(html: str, name: str) -> str:
    return text(html.partition(f'id="{name}"')[2].partition("</section>")[0].partition(">")[2])


class Tags(HTMLParser):
    """The tags of a page; the order in which they are closed is checked."""

    VOID = ("meta", "link", "wbr")
    EMPTY = ("line", "rect", "circle", "polyline")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in self.EMPTY, f"<{tag}> of an SVG must close itself"
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


OUTCOMES = {
    "Promoted: version 3 is in production, in place of version 2": COMPLETE_RUN,
    "Promoted: version 3 is in production, the first model": (
        *UP_TO_TRAIN,
        make_verdict(champion=None),
        make_registration(),
        make_deployment(None),
    ),
    "Rejected: the champion, version 2, stays": (*UP_TO_TRAIN, make_verdict("reject")),
    "Stopped at Compare: the candidate was not compared, because the champion is lost": (
        *UP_TO_TRAIN,
        make_verdict("reject", metrics=[], rules=[rules.reject_lost_champion("its files are gone")]),
    ),
    "Rejected: there is still no champion": (*UP_TO_TRAIN, make_verdict("reject", None)),
    "Held: version 3 is registered, but not deployed": (
        *UP_TO_TRAIN,
        make_run(promote="never"),
        make_verdict(),
        make_registration("hold"),
    ),
    "Held: the candidate is better, but was not approved": (*UP_TO_TRAIN, make_run(promote="ask"), make_verdict()),
    "Nothing new to train": (*UP_TO_PLAN[:-1], make_plan("nothing", "run ct-0 trained it")),
    "Repeated ping": (*UP_TO_PLAN[:-1], make_plan("duplicate", "run ct-0 had the same trigger and reason")),
    "Checked: feature passes Lint and Test": (make_run(branch="feature"), make_lint(), make_counts()),
    "Stopped: mypy failed, nothing was trained": (make_run(), make_lint("mypy"), make_counts()),
    "Stopped: ruff, mypy and 2 tests failed, nothing was trained": (
        make_run(),
        make_lint("ruff", "mypy"),
        make_counts("a", "b"),
    ),
    "Stopped: 1 data check failed, nothing was trained": (
        *UP_TO_PLAN[:-2],
        make_data_check(Check(name="freshness", passed=False, message="too old")),
    ),
    "Stopped at Lint and Test: nothing was trained": (make_run(),),
    "Stopped at Lint: nothing was trained": (make_run(), make_counts()),
    "Stopped at Test: nothing was trained": (make_run(), make_lint()),
    "Stopped at Snapshot: nothing was trained": (make_run(), make_lint(), make_counts()),
    "Stopped at Check data: nothing was trained": UP_TO_PLAN[:4],
    "Stopped at Plan: nothing was trained": UP_TO_PLAN[:5],
    "Stopped at Train: nothing was trained": UP_TO_PLAN,
    "Stopped at Check model: the candidate was not compared": UP_TO_TRAIN,
    "Stopped at Compare: the candidate was not compared": (*UP_TO_TRAIN, MODEL_CHECK),
    "Rolled back: version 2 is in production again, in place of version 3": (
        make_run(rollback=True, reason="it says yes to all"),
        make_rollback(),
    ),
    "Stopped at Roll back: the champion may not have changed": (make_run(rollback=True, reason="it lies"),),
    f"Held: version 3 is not promoted: {HELD}; scripts/ct release ends this": (
        *UP_TO_TRAIN,
        make_verdict(),
        make_registration("hold", HOLD),
    ),
    f"On hold: {HELD}; scripts/ct release ends this": (
        make_run(hold="hold", reason="it lies"),
        HoldStatus(name="toy", hold=HOLD, before=None, **timing(2)),
    ),
    "Released: toy is released (it lies): the next run promotes a better version": (
        make_run(hold="release"),
        HoldStatus(name="toy", hold=None, before=HOLD, **timing(2)),
    ),
    "Stopped at Hold: the model may not be on hold": (make_run(hold="hold", reason="it lies"),),
    "Stopped at Release: the model may still be on hold": (make_run(hold="release"),),
    "Stopped at Refit: the candidate was not fitted once more": (*UP_TO_TRAIN, make_verdict()),
    "Stopped at Register: the candidate was not registered": (*UP_TO_TRAIN, make_verdict(), make_refit()),
    "Promoted: version 3 is in production, without a refit, in place of version 2": (
        *UP_TO_TRAIN,
        make_verdict(),
        make_refit("judged"),
        make_registration(),
        make_deployment(),
    ),
    "Stopped at Deploy: the new version is not in production": (*UP_TO_TRAIN, make_verdict(), make_registration()),
    "No run: there is nothing to report": (),
}


@pytest.mark.parametrize("expected", OUTCOMES)
def test_the_headline_is_the_outcome_of_the_run(expected: str) -> None:
    html = page(*OUTCOMES[expected])
    assert headline(html) == expected
    assert f"<title>{expected}</title>" in html


def test_the_headline_is_written_as_plain_text_for_the_description_of_the_build() -> None:
    page(*OUTCOMES["Rejected: the champion, version 2, stays"])
    assert report.HEADLINE.read_text() == "Rejected: the champion, version 2, stays\n"


@pytest.mark.parametrize("expected", OUTCOMES)
def test_every_page_is_well_formed_and_has_no_external_resources(expected: str) -> None:
    tags = Tags(page(*OUTCOMES[expected])).tags
    assert not {"script", "iframe", "img", "base", "form"} & {tag for tag, _ in tags}
    references = {value for _, attributes in tags for name, value in attributes.items() if name in {"src", "href"}}
    assert references <= {"data:,", make_run().build_url}
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)


def test_the_page_says_which_model_is_registered_and_by_which_rules() -> None:
    passed = Rule(name="refit: rank correlation", passed=True, value=0.9, limit=0.8, message="they agree")
    failed = Rule(name="refit: gain", passed=False, value=-0.1, limit=0, message=HOSTILE)
    refit = make_refit("judged", f"the candidate itself: {HOSTILE}", passed, failed)
    html = page(*UP_TO_TRAIN, make_verdict(judged_twin=True), refit, make_registration(), make_deployment())
    assert HOSTILE not in html
    assert "The judged model What is registered is the candidate itself" in text(html)
    assert "they agree" in text(html)
    assert "The champion is a refit: its numbers are those of the model that was judged" in text(html)
    assert "It is the candidate itself" in text(html)
    assert "The refit What is registered is the recipe" in text(page(*UP_TO_TRAIN, make_verdict(), make_refit()))


def test_the_page_has_the_trigger_and_the_reason_of_the_run() -> None:
    html = page(make_run(trigger="drift", reason="seats drifted"))
    assert "toy as of 1 March 2020" in text(html)
    assert "Started by a ping about drift Reason seats drifted Started at 1 March 2020, 02:00 UTC Run ct-1" in text(
        html
    )
    assert "Started by a push to feature" in text(page(make_run(trigger="push", branch="feature")))


def test_the_comparison_has_both_models_and_shows_a_negated_loss_as_a_loss() -> None:
    message = section(page(*COMPLETE_RUN), "comparison")
    assert "roc_auc higher is better, decides 0.7470 0.7410 +0.0060" in message
    assert "log_loss lower is better 0.4712 0.4815 +0.0103" in message
    assert "neg_" not in message
    assert "Improvement of roc_auc over the champion: +0.0020 to +0.0100 with 95% confidence" in message
    assert "required +0.0010" in message


def importance(features: int = 2, **changes: object) -> Importance:
    values = {f"x{number}": 0.1 / (1 + number) for number in range(features)}
    rows = [FeatureImportance(name=name, candidate=value, champion=0.01) for name, value in values.items()]
    fields = {"metric": "roc_auc", "rows": 2000, "left_out": 0, "features": rows, "correlated": []}
    return Importance.model_validate(fields | changes)


def test_the_importance_of_both_models_is_a_table_with_sentences() -> None:
    pair = CorrelatedFeatures(names=("x0", "x1"), correlation=0.95)
    html = page(*UP_TO_TRAIN, make_verdict(importance=importance(left_out=7, correlated=[pair])))
    message = section(html, "comparison")
    assert (
        "The time was enough for the first 2 of 9 features. Of these, the candidate looks most at x0 and x1." in message
    )
    assert "it looks more at x0: +0.1000 of roc_auc, the champion's value is +0.0100." in message
    assert "Strongly correlated, and so more important than shown: x0 and x1 (0.9500)." in message
    assert "x0 +0.1000 +0.0100" in message
    assert "more feature" not in message


def test_all_but_ten_features_are_folded() -> None:
    message = section(page(*UP_TO_TRAIN, make_verdict(importance=importance(11))), "comparison")
    assert "1 more feature Feature Candidate" in message


def test_a_first_model_and_one_without_importance_have_their_pages() -> None:
    alone = importance(features=1).features[0].model_copy(update={"champion": None})
    first = make_verdict(champion=None, importance=importance().model_copy(update={"features": [alone]}))
    message = section(page(*UP_TO_TRAIN, first), "comparison")
    assert "What the model looks at" in message
    assert "Champion" not in message
    assert "looks at" not in page(*UP_TO_TRAIN, make_verdict())


def test_the_confusion_of_both_models_is_one_table() -> None:
    tables = [
        Confusion(model=model, classes=["cat", HOSTILE], counts=[[1234, 5], [6, number]])
        for model, number in (("candidate", 70), ("champion", 80))
    ]
    html = page(*UP_TO_TRAIN, make_verdict(confusion=tables))
    assert "Actual class cat" in section(html, "comparison")
    assert "6 6 70 80" in section(html, "comparison")
    assert HOSTILE not in html


@pytest.mark.parametrize("kind", ["predicted", "residuals"])
def test_a_regression_has_its_curves_with_deciles(kind: str) -> None:
    day = 86400.0
    curves = [
        Curve(kind=kind, model=model, x=[day, 9 * day, 30 * day], y=[1, -2, 3], low=[0, -3, -5e6], high=[2, 0, 1.5e6])
        for model in ("candidate", "champion")
    ]
    html = page(*UP_TO_TRAIN, make_verdict(curves=curves))
    message = section(html, "comparison")
    assert {"predicted": "Predicted and actual", "residuals": "Residuals over time"}[kind] in message
    assert "eight in ten rows of the candidate" in message
    assert ("15 Jan" in message) == (kind == "residuals")
    assert "−4M" in message


@pytest.mark.parametrize("kind", ["predicted", "residuals"])
def test_a_model_without_errors_has_curves_too(kind: str) -> None:
    curve = Curve(kind=kind, model="candidate", x=[0.0], y=[0.0], low=[0.0], high=[0.0])
    assert "eight in ten rows" in page(*UP_TO_TRAIN, make_verdict(champion=None, curves=[curve]))


def test_training_and_fresh_scores_are_side_by_side_with_a_sentence_if_they_are_far_apart() -> None:
    metric = Metric(name="neg_mean_absolute_error", candidate=-60.7, champion=-65.2, difference=(3.1, 5.9), margin=0.0)
    scores = {"neg_mean_absolute_error": -60.7, "train_neg_mean_absolute_error": -8.7, "fit_seconds": 2.5}
    candidate = make_candidate().model_copy(update={"metrics": scores})
    html = page(*UP_TO_PLAN, candidate, make_verdict(metrics=[metric]))
    message = section(html, "comparison")
    assert "Metric On training rows Candidate Champion Improvement mean_absolute_error" in message
    assert "decides 8.7000 60.70 65.20 +4.5000" in message
    assert "60.70 on the fresh rows, 7 times the error" in message
    assert "train_" not in text(html)
    assert "fit_seconds 2.5000" in section(html, "lineage")


def test_the_comparison_of_a_first_candidate_has_no_champion() -> None:
    message = section(page(*UP_TO_TRAIN, make_verdict(champion=None)), "comparison")
    assert message.startswith("The first candidate")
    assert "Champion" not in message
    assert "Improvement" not in message


def test_every_rule_is_marked_as_passed_or_failed() -> None:
    assert "✓ roc_auc improves 0.0020 0.0010 the rule's message" in section(
        page(*UP_TO_TRAIN, make_verdict()), "comparison"
    )
    html = page(*UP_TO_TRAIN, make_verdict("reject"))
    assert "✗ roc_auc improves −0.0040 0.0010 the rule's message" in section(html, "comparison")
    assert "Reason: the verdict's message." in text(html)


def test_a_verdict_without_scores_has_the_reason() -> None:
    rule = Rule(name="number of fresh cases", passed=False, value=3, limit=40, message="3 rows of the rarest class")
    html = page(*UP_TO_TRAIN, make_verdict("reject", metrics=[], rules=[rule]))
    message = section(html, "comparison")
    assert "✗ number of fresh cases" in message
    assert "3 rows of the rarest class" in message
    assert "Metric" not in message


def test_a_rollback_has_its_reason_and_only_its_own_stages() -> None:
    html = page(*OUTCOMES["Rolled back: version 2 is in production again, in place of version 3"])
    assert "Reason: it says yes to all. Version 3 is not promoted again without FORCE." in text(html)
    assert "not run" not in section(html, "time")


@pytest.mark.parametrize(
    "documents",
    [
        (*UP_TO_PLAN[:-1], make_plan("nothing").model_copy(update={"hold": HOLD})),
        (*UP_TO_TRAIN, make_verdict(), make_registration("promote", HOLD)),
        (*COMPLETE_RUN[:-1], make_deployment().model_copy(update={"hold": HOLD})),
        (make_run(rollback=True, reason="x"), make_rollback().model_copy(update={"hold": HOLD})),
    ],
    ids=["idle", "registered", "promoted by a person", "rolled back"],
)
def test_a_hold_is_shown_with_the_command_that_ends_it(documents: tuple[Document, ...]) -> None:
    assert f"On hold {HELD}; scripts/ct release ends this" in text(page(*documents))


def test_curves_are_drawn_if_the_verdict_has_them() -> None:
    html = page(*COMPLETE_RUN)
    assert html.count("<polyline") == 4
    assert 'aria-label="Calibration: observed frequency against predicted probability' in html
    assert "<polyline" not in page(make_verdict(curves=[]))


def test_failed_checks_come_first_with_their_rows_and_the_others_are_collapsed() -> None:
    failure = Check(
        name="values",
        column="seats",
        passed=False,
        message="is null in 48% of the rows",
        rows=[{"flight": 1545, "seats": None}, {"flight": 1546, "seats": 9999.0}],
    )
    html = page(*UP_TO_PLAN[:4], make_data_check(failure))
    expected = "✗ values of seats is null in 48% of the rows flight seats 1545 null 1546 9999.0"
    assert section(html, "data").startswith(f"Data checks {expected}")
    details = text(re.findall(r"<details>.*?</details>", html, flags=re.DOTALL)[0])
    assert details == "✓ 1 other check passed Column Check Result carrier values 16 values"


def test_the_code_section_has_the_output_of_failed_tools_only() -> None:
    message = section(page(make_run(), make_lint("mypy"), make_counts("tests.code.test_plan.test_twice")), "code")
    assert "✗ Test: 40 passed, 1 failed, 2 skipped tests.code.test_plan.test_twice" in message
    assert "mypy output" in message
    assert "ruff output" not in message


def test_the_page_has_the_observation_of_the_canary() -> None:
    assert "As canary 900 requests, 0.1% failed, 99% within 20.5 ms; it agrees with the champion on 97%" in text(
        page(*COMPLETE_RUN)
    )


def test_the_lineage_has_the_data_the_code_and_the_parameters() -> None:
    message = section(page(*COMPLETE_RUN), "lineage")
    for part in ("5a4b", "50,791", "1,234", "1 March 2019", "f19e", "50c3", "m1f10", "3 of toy", "c0ffee", "3.11.7"):
        assert part in message
    assert "MODEL=toy AS_OF=2020-03-01T00:00:00 COMPUTE=local FORCE=false PROMOTE=auto" in message


def test_the_stages_are_in_run_order_and_one_that_did_not_run_is_marked() -> None:
    message = section(page(make_run(), make_lint(), make_counts()), "time")
    assert (
        "Set up 02:00:00 1.0 s Lint 02:00:01 1.0 s Test 02:00:01 3.0 s Snapshot not run Check data not run" in message
    )


def test_the_bars_of_the_stages_stay_visible_when_an_approval_takes_an_hour() -> None:
    bars = re.findall(r'<rect x="([\d.]+)%" y="2" width="([\d.]+)%"', page(*COMPLETE_RUN))
    begins, widths = zip(*((float(x), float(width)) for x, width in bars), strict=True)
    assert len(bars) == 10
    assert min(widths) > 5  # the approval took an hour, each stage a second
    assert begins[1] == begins[2]  # Lint and Test run at once
    assert all(x + width <= 100.01 for x, width in zip(begins, widths, strict=True))


def test_a_malformed_document_is_listed_and_the_others_are_shown() -> None:
    page(*COMPLETE_RUN)
    Plan.path().write_text('{"version": 2}')
    Lint.path().write_bytes(b"\xff\xfe")
    Counts.path().unlink()
    Counts.path().mkdir()
    html = page()
    assert headline(html).startswith("Promoted")
    for name in ("plan", "lint", "tests"):
        assert f"build/{name}.json" in section(html, "left-out")
    assert "roc_auc" in section(html, "comparison")


def test_a_document_of_another_run_is_listed_and_excluded() -> None:
    html = page(*UP_TO_PLAN, make_verdict().model_copy(update={"build_tag": "ct-0"}))
    assert "build/verdict.json is of run ct-0" in section(html, "left-out")
    assert 'id="comparison"' not in html


@pytest.mark.parametrize(("document", "stage"), [(Deployment, "Deploy"), (Run, "Set up")])
def test_the_headline_is_unclear_if_the_decisive_document_is_malformed(document: type[Document], stage: str) -> None:
    page(*COMPLETE_RUN)
    document.path().write_text("{")
    html = page()
    assert headline(html) == f"Unclear: the document of {stage} in build/ is malformed or of another run"
    assert f"build/{document.stem}.json is not a {document.stem} document" in section(html, "left-out")


def test_documents_without_a_run_are_excluded() -> None:
    html = page(make_lint(), make_verdict())
    assert headline(html).startswith("Unclear")
    assert section(html, "left-out").count("build/run.json is missing") == 1


def test_html_in_the_documents_is_escaped() -> None:
    check = Check(name=HOSTILE, column=HOSTILE, passed=False, message=HOSTILE, rows=[{HOSTILE: HOSTILE}])
    metric = Metric(name=HOSTILE, candidate=0.5, champion=0.4, difference=(0.05, 0.2))
    rule = Rule(name=HOSTILE, passed=False, value=0.1, limit=0.2, message=HOSTILE)
    verdict = make_verdict("reject", message=HOSTILE, champion=HOSTILE, metrics=[metric], rules=[rule])
    html = page(
        make_run(reason=HOSTILE, branch=HOSTILE, trigger="push", build_url="javascript:alert(1)", commit=HOSTILE),
        Lint(tools=[Tool(name=HOSTILE, command=HOSTILE, passed=False, output=HOSTILE)], **timing(1)),
        make_counts(HOSTILE),
        make_data_check(check),
        make_plan(reason=HOSTILE).model_copy(update={"parts": {HOSTILE: HOSTILE}}),
        make_candidate().model_copy(update={"metrics": {HOSTILE: 1.0}}),
        verdict,
    )
    tags = Tags(html).tags
    assert not {"script", "img", "a"} & {tag for tag, _ in tags}
    assert text(html).count("alert('x')") > 15  # shown, as text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.74699, "0.7470"),
        (0.00002, "2.0e−05"),
        (12.346, "12.35"),
        (1234567.8, "1,234,568"),
        (-3.0, "−3.0000"),
        (0, "0"),
    ],
)
def test_numbers_have_their_significant_digits(value: float, message: str) -> None:
    assert formatting.format_number(value) == message


@pytest.mark.parametrize(
    ("seconds", "message"), [(0.017, "0.02 s"), (59, "59.0 s"), (61, "1 min 1 s"), (7300, "2 h 1 min")]
)
def test_durations_are_in_hours_minutes_and_seconds(seconds: float, message: str) -> None:
    assert formatting.format_duration(seconds) == message


def test_the_script_imports_no_large_package_and_prints_the_path() -> None:
    make_run().write()
    large_packages = "{'mlflow', 'sklearn', 'pandas', 'numpy', 'matplotlib'} & {*sys.modules}"
    program = (
        "import atexit, runpy, sys; sys.argv = ['report.py'];"
        f"atexit.register(lambda: sys.stderr.write(str({large_packages} or 'none')));"
        f"runpy.run_path({str(ROOT / 'scripts' / 'report.py')!r}, run_name='__main__')"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (0, "build/report.html\n", "none")
    assert headline(Path("build/report.html").read_text()) == "Stopped at Lint and Test: nothing was trained"
