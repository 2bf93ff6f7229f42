"""The monitor's page: self-contained HTML without scripts, for every verdict."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from continuous_training.documents import Hold
from continuous_training.jenkins.ping import Ping, PingResult
from continuous_training.monitoring import page
from continuous_training.monitoring.decision import Decision
from continuous_training.monitoring.drift import ColumnDrift
from continuous_training.monitoring.findings import Finding
from continuous_training.monitoring.history import CheckSummary
from continuous_training.monitoring.report import MonitorReport

NOON = datetime(2026, 4, 1, 12, tzinfo=UTC)


def make_report(verdict: Any = "retrain", **fields: Any) -> MonitorReport:
    defaults: dict[str, Any] = {
        "model": "toy",
        "model_version": "3",
        "source": "log",
        "at": NOON,
        "as_of": NOON,
        "since": NOON - timedelta(days=7),
        "until": NOON,
        "rows": 12345,
        "decision": Decision(verdict=verdict, cause="x drifted", message="x drifted (1 of 2 columns)"),
        "drifts": [
            ColumnDrift(
                name="x",
                test="wasserstein",
                distance=0.41,
                limit=0.2,
                null_share=0.015,
                reference_null_share=0,
                drifted=True,
            ),
            ColumnDrift(
                name="<y>", test="jensenshannon", distance=0.02, limit=0.1, null_share=0, reference_null_share=0
            ),
        ],
    }
    return MonitorReport(**{**defaults, **fields})


def summaries(*checks: tuple[str | None, float | None]) -> list[CheckSummary]:
    return [
        CheckSummary(
            at=NOON + timedelta(hours=index),
            version=version,
            verdict="none" if ratio else "not enough data",
            ratio=ratio,
        )
        for index, (version, ratio) in enumerate(checks)
    ]


def page_text(html: str) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL).split())


@pytest.mark.parametrize("verdict", list(page.HEADLINES))
def test_every_verdict_has_a_page_without_scripts_and_external_resources(verdict: str) -> None:
    html = page.render_page(make_report(verdict), summaries(("3", 0.4), ("3", 2.0)))
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: (
        tags.append(tag)
        or [
            pytest.fail(f"{name}={value}")
            for name, value in attributes
            if name.startswith("on") or (name in {"src", "href"} and not str(value).startswith(("data:", "#")))
        ]
    )
    parser.feed(html)
    assert "script" not in tags
    assert page.HEADLINES[verdict][1] in page_text(html)


def test_the_page_has_the_distances_and_the_evidence() -> None:
    text = page_text(page.render_page(make_report(evidence="runs:/7"), []))
    assert "x drifted (1 of 2 columns)." in text
    assert "x Wasserstein 0.4100 0.2000 yes 1.5% 0%" in text
    assert "&lt;y&gt; Jensen-Shannon 0.0200 0.1000 no" in text
    assert "12,345 rows of the predictions log" in text
    assert "runs:/7" in text


def test_the_page_has_the_outcome_of_the_ping() -> None:
    ping = Ping(trigger="drift", reason="version 3: x drifted", model="toy", model_version="3", evidence="runs:/7")
    sent = make_report(ping_result=PingResult(ping=ping, address="http://jenkins", jobs=["model/main"]))
    skipped = make_report(ping_result=PingResult(ping=ping, address="none", skip_reason="no Jenkins is configured"))
    assert "Jenkins triggered model/main with the reason 'version 3: x drifted'." in page_text(
        page.render_page(sent, [])
    )
    assert "No training was requested: no Jenkins is configured." in page_text(page.render_page(skipped, []))


def test_a_hold_is_shown_with_the_command_that_ends_it() -> None:
    hold = Hold(reason="it lies", by=None, since=datetime(2020, 2, 29, 12, tzinfo=UTC), until=None)
    expected = "toy is on hold since 29 February 2020, 12:00 UTC because it lies; scripts/ct release ends this"
    assert expected in page_text(page.render_page(make_report(), [], hold))


def test_an_error_is_the_headline() -> None:
    failed = make_report("not enough data", drifts=[], findings=[Finding(kind="error", message="the log <is> missing")])
    text = page_text(page.render_page(failed, []))
    assert "The monitor could not run all checks" in text
    assert "✗ the log &lt;is&gt; missing" in text


def test_the_chart_marks_a_new_champion_and_breaks_the_line() -> None:
    history = summaries(("3", 0.5), ("3", 2.0), ("4", 0.3), ("4", 0.2))
    chart = page.build_chart(history)
    assert [marker.new_version for marker in chart.markers] == [False, False, True, False]
    assert [len(points) for points in chart.lines] == [2, 2]
    assert "version 4" in page.render_page(make_report(), history)


def test_a_check_without_measurement_is_a_gap_and_a_large_ratio_is_drawn_at_the_top() -> None:
    chart = page.build_chart(summaries(("3", 0.5), ("3", None), ("3", 40.0)))
    assert chart.markers[1].y is None
    assert chart.markers[2].y == page.TOP
    assert chart.lines == []


def test_the_first_champion_is_not_marked() -> None:
    assert not any(marker.new_version for marker in page.build_chart(summaries((None, None), ("1", 0.2))).markers)


def test_a_single_check_has_a_chart() -> None:
    assert len(page.build_chart(summaries(("3", 0.5))).markers) == 1
