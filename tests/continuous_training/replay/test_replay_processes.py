"""The replay with its real stages, in a workspace of its own: killed on the way, gone on with, and drawn again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest

from conftest import ROOT
from continuous_training.replay.workspace import MARKER
from forked_python import ForkedPython
from jenkinsfile.builds.processes import find_processes
from toy import events, store

pytestmark = pytest.mark.integration(seconds=300)

LIMIT = 600  # seconds for one replay
FINISHED = "SELECT name, count(*) FROM runs WHERE status = 'FINISHED' GROUP BY name"


@pytest.fixture
def project(workspace: Path) -> Path:
    """Make the toy workspace a project: with the scripts and the library that stand beside a real model."""
    for name in ("scripts", "MLproject", "src/continuous_training"):
        (workspace / name).symlink_to(ROOT / name)
    return workspace


def start(python: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [python, "scripts/replay.py", "--model", "toy", "--without-drift", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def replay(python: Path, *arguments: str) -> tuple[str, str]:
    """Replay to the end; return what it printed and what it logged."""
    running = start(python, *arguments)
    printed, logged = running.communicate(timeout=LIMIT)
    assert running.returncode == 0, logged
    return printed, logged


def wait_for(pattern: str, text: str, running: subprocess.Popen[str]) -> Path:
    """Wait until a file of the replay says something; return the file."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        for path in Path(".ct/replay").glob(pattern):
            if text in path.read_text(errors="replace"):
                return path
        assert running.poll() is None, running.communicate()
        time.sleep(0.1)
    pytest.fail(f"no {pattern} ever said {text}")


def test_a_killed_replay_goes_on_where_it_was_and_touches_nothing_of_the_users(
    project: Path, forked_python: ForkedPython
) -> None:
    """Kill it in its second month: the first is kept, the second begins anew. The third month's data is refused."""
    four_months = events(days=120)
    four_months.loc[four_months["seen"] >= "2020-03-25", "x"] = 100.0
    store(four_months)
    months = ("--from", "2020-02", "--to", "2020-04")
    running = start(Path(sys.executable), *months)
    folder = wait_for("*/logs/2020-03.log", "--- train", running).parents[1].resolve()
    kept = (folder / "months/2020-02.json").read_bytes()
    os.kill(running.pid, signal.SIGKILL)
    running.wait()

    printed, logged = replay(forked_python.python, *months, "--json")
    assert f"Replaying in {folder}, 1 of 3 months are finished" in logged
    assert (folder / "months/2020-02.json").read_bytes() == kept
    assert find_processes({MARKER: str(folder)}) == []
    with closing(connect(folder / ".ct/mlflow.db")) as database:
        assert dict(database.execute(FINISHED)) == {"replay-2020-02": 1, "replay-2020-03": 1}
    assert sorted(path.name for path in (project / ".ct").iterdir()) == ["replay", "warehouse.duckdb"]
    assert sorted(path.name for path in (project / "build").iterdir()) == ["replay.html", "replay.png"]

    found = json.loads(printed)
    first, second, third = found["months"]
    assert first["run"]["decision"] == "promoted"
    assert second["run"]["candidate"]
    assert third["run"]["candidate"] is None
    assert third["run"]["champion"] == second["run"]["champion"]
    assert "2020-04: no candidate, check data failed:" in logged
    assert str(folder / "logs/2020-04.log") in third["run"]["message"]
    assert third["scores"]

    logs = {path: path.stat().st_mtime_ns for path in (folder / "logs").iterdir()}
    again, logged = replay(forked_python.python, *months, "--json")
    assert again == printed
    assert "Replaying" not in logged
    assert {path: path.stat().st_mtime_ns for path in (folder / "logs").iterdir()} == logs
