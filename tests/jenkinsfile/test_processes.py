"""Signals, orphans and locks, with real processes of `python -m jenkinsfile run`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time

import psutil
import pytest

from jenkinsfile.builds.processes import find_processes
from local_build import pipeline, run_build, start_run

# A child, a grandchild in a separate session, and a daemon that changes its cookie to survive, as on Jenkins.
PROCESS_TREE = """sh '''
    sh -c 'echo $$ > grandchild; exec setsid sleep 300' &
    JENKINS_NODE_COOKIE=dontKillMe sh -c 'echo $$ > daemon; exec setsid sleep 300' > /dev/null 2>&1 &
    while ! test -s grandchild || ! test -s daemon; do sleep 0.02; done
    echo $$ > child
    {last_command}
'''"""
TIMEOUT = 300  # seconds, for a busy machine
POST = "always { sh 'echo post ran' }"


def wait_until(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "timeout: the condition is not true"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def pids(workspace):
    return {name: int((workspace / name).read_text()) for name in ("child", "grandchild", "daemon")}


def records(workspace):
    folders = sorted((workspace / ".ct/builds").iterdir(), key=lambda path: int(path.name))
    return [json.loads((folder / "build.json").read_text()) for folder in folders]


@pytest.fixture(autouse=True)
def _kill_survivors(tmp_path):
    yield
    for file in ("child", "grandchild", "daemon"):
        if (tmp_path / file).exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int((tmp_path / file).read_text()), signal.SIGKILL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_terminates_child_and_grandchild_and_post_still_runs(tmp_path, number, code):
    process = start_run(tmp_path, pipeline(PROCESS_TREE.replace("{last_command}", "sleep 300"), post=POST))
    wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip())
    process.send_signal(number)
    output, _ = process.communicate(timeout=TIMEOUT)
    running = {name: is_alive(pid) for name, pid in pids(tmp_path).items()}
    assert running == {"child": False, "grandchild": False, "daemon": True}
    assert process.returncode == code
    assert "post ran" in output.splitlines()
    assert records(tmp_path)[-1]["result"] == "ABORTED"


def test_a_second_signal_interrupts_post_too(tmp_path):
    process = start_run(
        tmp_path, pipeline("sh 'touch first; sleep 300'", post="always { sh 'touch second; sleep 300' }")
    )
    wait_until((tmp_path / "first").exists)
    process.send_signal(signal.SIGINT)
    wait_until((tmp_path / "second").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    assert records(tmp_path)[-1]["state"] == "finished"


def test_a_child_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("jenkinsfile.builds.processes.terminate.__defaults__", (0.2,))
    steps = "timeout(time: 300, unit: 'MILLISECONDS') { sh 'trap \"\" TERM; while :; do sleep 0.1; done' }"
    assert run_build(tmp_path, pipeline(steps)).result == "ABORTED"


def test_leftover_processes_of_a_build_are_terminated_unless_they_change_their_cookie(tmp_path):
    outcome = run_build(tmp_path, pipeline(PROCESS_TREE.replace("{last_command}", "true")))
    assert outcome.result == "SUCCESS"
    assert not is_alive(pids(tmp_path)["grandchild"])
    assert is_alive(pids(tmp_path)["daemon"])


def test_a_process_that_is_just_loading_its_program_is_found(monkeypatch):
    for number in range(20):  # nearly each of them shows an empty environment at first
        variables = {"TEST_PROCESSES": str(number)}
        with subprocess.Popen(["sleep", "600"], env={**os.environ, **variables}) as process:
            monkeypatch.setattr(psutil, "process_iter", lambda: [psutil.Process(process.pid)])
            pids = [each.pid for each in find_processes(variables)]
            process.kill()
        assert pids == [process.pid]


def test_the_next_run_terminates_the_processes_of_a_killed_runner(tmp_path):
    text = pipeline(PROCESS_TREE.replace("{last_command}", "sleep 300"), "options { disableConcurrentBuilds() }")
    process = start_run(tmp_path, text)
    wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip())
    process.kill()
    process.wait()
    assert is_alive(pids(tmp_path)["child"])
    assert records(tmp_path)[-1]["state"] == "running"
    outcome = run_build(tmp_path, pipeline("echo 'next'", "options { disableConcurrentBuilds() }"))
    assert [record["result"] for record in records(tmp_path)] == ["ABORTED", "SUCCESS"]
    assert any(line.startswith("build 1 was killed: terminated ") for line in outcome.lines)
    running = {name: is_alive(pid) for name, pid in pids(tmp_path).items()}
    assert running == {"child": False, "grandchild": False, "daemon": True}


def test_a_second_run_waits_for_the_first(tmp_path):
    wait = "sh 'touch running; while ! test -e go; do sleep 0.05; done'"
    text = pipeline(wait, "options { disableConcurrentBuilds() }")
    first = start_run(tmp_path, text)
    wait_until((tmp_path / "running").exists)
    second = start_run(tmp_path, text)
    assert second.stdout.readline() == "waiting for build 1 to finish (disableConcurrentBuilds)\n"
    assert len(records(tmp_path)) == 1
    (tmp_path / "go").touch()
    assert [first.wait(TIMEOUT), second.wait(TIMEOUT)] == [0, 0]
    assert [record["number"] for record in records(tmp_path)] == [1, 2]
    first.communicate()
    second.communicate()


def test_a_closed_pipe_does_not_end_the_build(tmp_path):
    process = start_run(
        tmp_path, pipeline("sh 'echo one; while ! test -e go; do sleep 0.05; done; echo two; touch done'")
    )
    process.stdout.readline()
    process.stdout.close()
    (tmp_path / "go").touch()
    process.wait(TIMEOUT)
    assert (tmp_path / "done").exists()
    assert "two" in (tmp_path / ".ct/builds/1/log").read_text().splitlines()
