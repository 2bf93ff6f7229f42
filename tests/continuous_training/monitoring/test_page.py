"""The monitor's page: one that Jenkins shows as it is, whatever was found."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from continuous_training.jenkins.ping import Ping, PingResult
from continuous_training.monitoring import page
from continuous_training.monitoring.decision import Decision
from continuous_training.monitoring.examination import Examination
from continuous_training.monitoring.finding import Drift, Finding
from continuous_training.monitoring.history import Look

NOON = datetime(2026, 4, 1, 12, tzinfo=UTC)


def found(verdict: Any = "retrain", **given: Any) -> Examination:
    plain: dict[str, Any] = {
        "model": "toy",
        "model_version": "3",
        "source": "log",
        "at": NOON,
        "as_of": NOON,
        "since": NOON - timedelta(days=7),
        "until": NOON,
        "rows": 12345,
        "decision": Decision(verdict=verdict, cause="x moved", message="x moved (1 of 2 columns)"),
        "drifts": [
            Drift(
                name="x",
                test="wasserstein",
                distance=0.41,
                limit=0.2,
                null_share=0.015,
                learnt_null_share=0,
                moved=True,
            ),
            Drift(name="<y>", test="jensenshannon", distance=0.02, limit=0.1, null_share=0, learnt_null_share=0),
        ],
    }
    return Examination(**{**plain, **given})


def looks(*given: tuple[str | None, float | None]) -> list[Look]:
    return [
        Look(
            at=NOON + timedelta(hours=place),
            version=version,
            verdict="none" if ratio else "not enough data",
            ratio=ratio,
        )
        for place, (version, ratio) in enumerate(given)
    ]


def words(html: str) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL).split())


@pytest.mark.parametrize("verdict", list(page.HEADLINES))
def test_every_verdict_has_its_page_without_scripts_and_without_anything_from_elsewhere(verdict: str) -> None:
    html = page.render(found(verdict), looks(("3", 0.4), ("3", 2.0)))
    opened: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: (
        opened.append(tag)
        or [
            pytest.fail(f"{name}={value}")
            for name, value in attributes
            if name.startswith("on") or (name in {"src", "href"} and not str(value).startswith(("data:", "#")))
        ]
    )
    parser.feed(html)
    assert "script" not in opened
    assert page.HEADLINES[verdict][1] in words(html)


def test_it_says_what_moved_how_far_and_where_the_evidence_is() -> None:
    message = words(page.render(found(evidence="runs:/7"), []))
    assert "x moved (1 of 2 columns)." in message
    assert "x Wasserstein 0.4100 0.2000 yes 1.5% 0%" in message
    assert "&lt;y&gt; Jensen-Shannon 0.0200 0.1000 no" in message
    assert "12,345 rows of the predictions log" in message
    assert "runs:/7" in message


def test_it_says_whether_jenkins_was_asked() -> None:
    ping = Ping(trigger="drift", reason="version 3: x moved", model="toy", model_version="3", evidence="runs:/7")
    sent = found(asking=PingResult(ping=ping, address="http://jenkins", jobs=["model/main"]))
    kept = found(asking=PingResult(ping=ping, address="none", skip_reason="no Jenkins is named"))
    assert "started model/main : «version 3: x moved»" in words(page.render(sent, [])).replace("main:", "main :")
    assert "Jenkins is not asked for a training: no Jenkins is named." in words(page.render(kept, []))


def test_a_fault_is_the_headline() -> None:
    broken = found("not enough data", drifts=[], findings=[Finding(kind="fault", message="the log <is> gone")])
    message = words(page.render(broken, []))
    assert "The monitor could not do all of its work" in message
    assert "✗ the log &lt;is&gt; gone" in message


def test_the_drawing_marks_a_new_champion_and_breaks_the_line_there() -> None:
    past = looks(("3", 0.5), ("3", 2.0), ("4", 0.3), ("4", 0.2))
    drawn = page.drawing(past)
    assert [mark.changed for mark in drawn.marks] == [False, False, True, False]
    assert [len(points) for points in drawn.lines] == [2, 2]
    assert "version 4" in page.render(found(), past)


def test_what_was_not_measured_is_a_gap_and_what_is_far_off_is_drawn_at_the_top() -> None:
    drawn = page.drawing(looks(("3", 0.5), ("3", None), ("3", 40.0)))
    assert drawn.marks[1].y is None
    assert drawn.marks[2].y == page.TOP
    assert drawn.lines == []


def test_a_champion_that_comes_after_there_was_none_is_marked_as_no_change() -> None:
    assert not any(mark.changed for mark in page.drawing(looks((None, None), ("1", 0.2))).marks)


def test_one_look_can_be_drawn() -> None:
    assert len(page.drawing(looks(("3", 0.5))).marks) == 1
