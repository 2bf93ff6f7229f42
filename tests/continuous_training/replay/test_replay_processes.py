"""A replay with its real stages: one that was killed continues, and a finished one is only rendered again."""

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
FINISHED_RUNS = "SELECT name, count(*) FROM runs WHERE status = 'FINISHED' GROUP BY name"


@pytest.fixture
def project(workspace: Path) -> Path:
    """Add the scripts and the framework to the workspace of the toy model."""
    for name in ("scripts", "MLproject", "src/continuous_training"):
        (workspace / name).symlink_to(ROOT / name)
    return workspace


def start(python: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [python, "scripts/replay.py", "--model", "toy", "--without-drift", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def replay(python: Path, *arguments: str) -> tuple[str, str]:
    """Replay to the end; return its standard output and its log."""
    process = start(python, *arguments)
    output, log = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, log
    return output, log


def wait_for(pattern: str, text: str, process: subprocess.Popen[str]) -> Path:
    """Wait until a file of the replay contains a text; return the file."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        for path in Path(".ct/replay").glob(pattern):
            if text in path.read_text(errors="replace"):
                return path
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    pytest.fail(f"no {pattern} contains {text}")


def test_a_killed_replay_continues_and_changes_no_file_of_the_user(project: Path, forked_python: ForkedPython) -> None:
    """Kill it in its second month: the first is reused, the second is repeated. The data check of the third fails."""
    four_months = events(days=120)
    four_months.loc[four_months["seen"] >= "2020-03-25", "x"] = 100.0
    store(four_months)
    months = ("--from", "2020-02", "--to", "2020-04")
    files = {path.name for path in (project / ".ct").iterdir()}
    process = start(Path(sys.executable), *months)
    folder = wait_for("*/logs/2020-03.log", "--- train", process).parents[1].resolve()
    first_month = (folder / "months/2020-02.json").read_bytes()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    output, log = replay(forked_python.python, *months, "--json")
    assert f"Replaying in {folder}, 1 of 3 months are finished" in log
    assert (folder / "months/2020-02.json").read_bytes() == first_month
    assert find_processes({MARKER: str(folder)}) == []
    with closing(connect(folder / ".ct/mlflow.db")) as database:
        finished = dict(database.execute(FINISHED_RUNS))
        assert finished == {"replay-2020-02": 1, "replay-2020-02-refit": 1, "replay-2020-03": 1}
    assert {path.name for path in (project / ".ct").iterdir()} == files | {"replay"}
    assert sorted(path.name for path in (project / "build").iterdir()) == ["replay.html", "replay.png"]

    result = json.loads(output)
    first, second, third = result["months"]
    assert first["run"]["decision"] == "promoted"
    assert second["run"]["candidate"]
    assert third["run"]["candidate"] is None
    assert third["run"]["champion"] == second["run"]["champion"]
    assert "2020-04: no candidate, check data failed:" in log
    assert str(folder / "logs/2020-04.log") in third["run"]["message"]
    assert third["scores"]

    logs = {path: path.stat().st_mtime_ns for path in (folder / "logs").iterdir()}
    next_output, log = replay(forked_python.python, *months, "--json")
    assert next_output == output
    assert "Replaying" not in log
    assert {path: path.stat().st_mtime_ns for path in (folder / "logs").iterdir()} == logs
