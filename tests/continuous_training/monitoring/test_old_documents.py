"""Documents with the keys of earlier releases are read, and written with the current keys."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import pytest

from continuous_training.documents import Value
from continuous_training.jenkins.ping import PingResult
from continuous_training.monitoring.history import CheckSummary
from continuous_training.monitoring.new_data.ping_state import PingState
from continuous_training.monitoring.new_data.row_counts import DayCount
from continuous_training.monitoring.new_data.watermark import Watermark
from continuous_training.monitoring.reference import ReferenceProfile
from continuous_training.monitoring.report import MonitorReport
from continuous_training.monitoring.state import MonitorState
from continuous_training.registry.model_versions import Version

ESTIMATE = {"metric": "roc_auc", "value": 0.8, "low": 0.7, "high": 0.9, "confidence": 0.95, "rows": 560, "windows": []}
COLUMN = {"test": "wasserstein", "null_share": 0.1, "values": None, "distances": [0.1, None]}


def version_with(**tags: Any) -> Version:
    return Version("toy", "1", "", {name.replace("_", "."): json.dumps(value) for name, value in tags.items()})


def assert_written_with_current_keys(value: Value) -> None:
    assert type(value).model_validate_json(value.model_dump_json()) == value
    assert json.loads(value.model_dump_json()).keys() == type(value).model_fields.keys()


@pytest.mark.parametrize("message_key", ["said", "message"])
def test_an_old_state_of_the_monitor_is_read(message_key: str) -> None:
    tag = {"over": {"x": 2}, "pinged": "2026-04-01T12:00:00Z", message_key: "x moved", "evidence": "runs:/7"}
    state = MonitorState.of(version_with(ct_monitor=tag))
    assert (state.consecutive, state.message, state.evidence) == ({"x": 2}, "x moved", "runs:/7")
    assert state.pinged_at == datetime.fromisoformat(tag["pinged"])
    assert_written_with_current_keys(state)


def test_an_old_state_of_the_data_ping_is_read() -> None:
    time = "2026-04-01T12:00:00Z"
    tag = {"at": time, "rows": 300, "newest": "2026-03-31T23:00:00", "digest": "abc", "claimed": time}
    state = PingState.of(version_with(ct_data=tag))
    assert (state.sent_at, state.claimed_at) == (datetime.fromisoformat(time),) * 2
    assert (state.rows, state.digest) == (300, "abc")
    assert_written_with_current_keys(state)


def test_an_old_summary_of_a_check_is_read() -> None:
    tag = '{"at":"2026-04-01T12:00:00Z","version":"1","verdict":"retrain","ratio":2.5,"metric":0.7,"pinged":true}'
    summary = CheckSummary.model_validate_json(tag)
    assert (summary.verdict, summary.ping_sent) == ("retrain", True)
    assert_written_with_current_keys(summary)


def test_an_old_result_of_a_ping_is_read() -> None:
    ping = {"trigger": "drift", "reason": "x moved", "model": "toy", "model_version": "1"}
    document = {"ping": ping, "address": "none"}
    result = PingResult.model_validate(document | {"withheld": "Jenkins is not reached", "fault": "timed out"})
    assert (result.skip_reason, result.error) == ("Jenkins is not reached", "timed out")
    assert_written_with_current_keys(result)


def test_an_old_watermark_is_read() -> None:
    document = {
        "by": "hash",
        "since": "2020-01-01T00:00:00",
        "until": "2020-02-29T00:00:00",
        "newest": "2020-02-28T23:00:00",
        "days": {"2020-01-01": {"rows": 40, "checksum": -7}},
    }
    watermark = Watermark.model_validate_json(json.dumps(document))
    assert watermark.query_hash == "hash"
    assert watermark.days == {date(2020, 1, 1): DayCount(rows=40, checksum=-7)}
    assert_written_with_current_keys(watermark)


@pytest.mark.parametrize("until", [{}, {"judged_until": "2020-02-29T00:00:00"}])
def test_an_old_reference_profile_is_read(until: dict[str, str]) -> None:
    document = {
        "rows": 1800,
        "since": "2020-01-01T00:00:00",
        "until": "2020-02-15T00:00:00",
        **until,
        "window_days": 7,
        "columns": {"x": COLUMN},
        "prediction": COLUMN,
        "classes": [False, True],
        "measured": ESTIMATE,
    }
    profile = ReferenceProfile.model_validate_json(json.dumps(document))
    assert profile.fresh_until == (datetime(2020, 2, 29) if until else None)
    assert profile.baseline is not None
    assert profile.baseline.value == 0.8
    assert_written_with_current_keys(profile)


def test_an_old_report_is_read() -> None:
    drift = {"name": "x", "test": "wasserstein", "distance": 0.4, "limit": 0.2, "null_share": 0}
    document = {
        "model": "toy",
        "source": "log",
        "at": "2026-04-01T12:00:00Z",
        "as_of": "2026-04-01T00:00:00",
        "decision": {"verdict": "warn", "cause": "x moved", "message": "x moved (1 of 3 columns)"},
        "drifts": [drift | {"learnt_null_share": 0.1, "moved": True}],
        "then": ESTIMATE,
        "now": ESTIMATE | {"value": 0.75},
        "findings": [{"kind": kind, "message": "text", "column": None} for kind in ("fault", "odd", "note")],
        "asking": None,
    }
    report = MonitorReport.model_validate_json(json.dumps(document))
    assert [finding.kind for finding in report.findings] == ["error", "warning", "note"]
    assert (report.drifts[0].reference_null_share, report.drifts[0].drifted) == (0.1, True)
    assert report.baseline is not None
    assert report.current is not None
    assert (report.baseline.value, report.current.value) == (0.8, 0.75)
    assert_written_with_current_keys(report)
