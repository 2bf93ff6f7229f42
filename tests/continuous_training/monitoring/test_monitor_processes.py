"""Drift starts a training: requests shift, the monitor pings Jenkins once, and the run's candidate is promoted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT
from continuous_training.registry import runs
from continuous_training.reports import page, run_documents
from continuous_training.stages import plan
from forked_python import ForkedPython
from jenkins_stub import TOKEN, jenkins
from pipeline import Pipeline
from server import ServerProcess
from toy import change, events, store

pytestmark = [pytest.mark.integration(seconds=100), pytest.mark.usefixtures("mlflow_workspace")]

LATER = "2020-04-20"


def drifted_events() -> pd.DataFrame:
    """Return events whose x is larger from March on, with the opposite effect."""
    frame = events(days=120)
    new = frame["seen"] >= "2020-03-01"
    frame.loc[new, "x"] += 2
    frame.loc[new, "late"] = np.random.default_rng(3).random(new.sum()) < 1 / (1 + np.exp(3 * (frame["x"][new] - 2)))
    return frame


@pytest.fixture
def monitor(forked_python: ForkedPython) -> Callable[..., str]:
    """Return a function that runs `ct monitor` and returns its output."""

    def monitor(*arguments: str, code: int = 0, **environment: str) -> str:
        process = forked_python.run(ROOT / "scripts/monitor.py", "--model", "toy", *arguments, **environment)
        assert process.returncode == code, process.stdout + process.stderr
        return process.stdout + process.stderr

    return monitor


def send_requests(server: ServerProcess, rows: pd.DataFrame) -> None:
    """Send rows to a server with the keys that identify them in the warehouse."""
    for part in (rows.iloc[start::4] for start in range(4)):
        records: list[dict[str, Any]] = json.loads(part[["id", "shade", "x", "y"]].to_json(orient="records"))
        assert server.invoke(dataframe_records=records).status_code == 200


def test_drift_pings_once_and_the_run_that_follows_is_promoted(
    monkeypatch: pytest.MonkeyPatch, monitor: Callable[..., str]
) -> None:
    first = Pipeline(monkeypatch)
    first.promote()
    frame = drifted_events()
    with ServerProcess() as server:
        server.wait_for_version("1")
        send_requests(server, frame[frame["seen"] >= "2020-04-10"].head(800))
        store(frame)
        with jenkins() as stub:
            output = monitor(AS_OF=LATER, WEBHOOK_TOKEN=TOKEN)  # while the rows are still in the server's journal
            assert "POST $JENKINS_URL/generic-webhook-trigger/invoke" in output
            assert TOKEN not in output
            for _ in range(2):
                output = monitor("--jenkins", stub.url, AS_OF=LATER, WEBHOOK_TOKEN=TOKEN)
        server.stop()
    [ping] = stub.pings
    assert "the cool-down ends on" in output
    assert Path("build/monitor.html").exists()
    assert (ping["trigger"], ping["as_of"], ping["model_version"]) == ("drift", LATER, "1")

    second = Pipeline(
        monkeypatch, BUILD_TAG="ct-2", TRIGGER=ping["trigger"], REASON=ping["reason"], AS_OF=ping["as_of"]
    )
    second.run.write()
    assert second.promote().number == "2"
    lineage = second.client.get_run(second.candidate.run_id).data.tags
    assert lineage[runs.REASON] == ping["reason"]
    assert lineage[runs.EVIDENCE] == ping["evidence"]

    second.plan.write()
    assert "Drift of version 1" in page.render(run_documents.read_run_documents())
    assert second.plan.drift
    assert second.plan.drift.evidence == ping["evidence"]

    assert "not enough data" in monitor("--jenkins", stub.url, AS_OF=LATER, WEBHOOK_TOKEN=TOKEN)  # for version 2


def test_an_unreachable_jenkins_is_an_error_and_the_page_is_still_written(
    monkeypatch: pytest.MonkeyPatch, monitor: Callable[..., str]
) -> None:
    change("serving: {watch_seconds: 0}", "serving: {watch_seconds: 0}\nmonitor: {min_rows: 200}")
    Pipeline(monkeypatch).promote()
    store(drifted_events())
    with jenkins() as stub:
        unreachable = stub.url
    output = monitor("--source", "warehouse", "--jenkins", unreachable, code=1, AS_OF=LATER, WEBHOOK_TOKEN=TOKEN)
    assert "ct monitor: error: Jenkins at" in output
    assert "cannot be reached" in output
    assert "could not run all checks" in Path("build/monitor.html").read_text()


def test_without_a_champion_a_note_is_printed_and_the_exit_code_is_0(monitor: Callable[..., str]) -> None:
    assert "toy has no champion" in monitor("--json")


def test_the_plan_of_a_run_without_a_ping_has_no_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(monkeypatch)
    pipeline.promote()
    assert plan._drift_evidence(pipeline.client, pipeline.run.model_copy(update={"trigger": "drift"})) is None
