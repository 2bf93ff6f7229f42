"""Signals, leftovers and locks: what happens to the processes of a run. These start `ct run` for real."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time

import psutil
import pytest

from local_build import build, ct_run, pipeline

# A child, a grandchild in a session of its own, and a daemon that opts out as on Jenkins.
FAMILY = """sh '''
    sh -c 'echo $$ > grandchild; exec setsid sleep 300' &
    JENKINS_NODE_COOKIE=dontKillMe sh -c 'echo $$ > daemon; exec setsid sleep 300' > /dev/null 2>&1 &
    while ! test -s grandchild || ! test -s daemon; do sleep 0.02; done
    echo $$ > child
    {then}
'''"""
POST = "always { sh 'echo post ran' }"


def until(what):
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def pids(workspace):
    return {name: int((workspace / name).read_text()) for name in ("child", "grandchild", "daemon")}


def records(workspace):
    folders = sorted((workspace / ".ct/builds").iterdir(), key=lambda one: int(one.name))
    return [json.loads((folder / "build.json").read_text()) for folder in folders]


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path):
    yield
    for file in ("child", "grandchild", "daemon"):
        if (tmp_path / file).exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int((tmp_path / file).read_text()), signal.SIGKILL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_child_and_grandchild_and_post_still_runs(tmp_path, number, code):
    process = ct_run(tmp_path, pipeline(FAMILY.replace("{then}", "sleep 300"), post=POST))
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip())
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    running = {name: alive(pid) for name, pid in pids(tmp_path).items()}
    assert running == {"child": False, "grandchild": False, "daemon": True}
    assert process.returncode == code
    assert "post ran" in output.splitlines()
    assert records(tmp_path)[-1]["result"] == "ABORTED"


def test_a_second_signal_ends_post_too(tmp_path):
    process = ct_run(tmp_path, pipeline("sh 'touch first; sleep 300'", post="always { sh 'touch second; sleep 300' }"))
    until((tmp_path / "first").exists)
    process.send_signal(signal.SIGINT)
    until((tmp_path / "second").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert records(tmp_path)[-1]["state"] == "finished"


def test_a_child_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("jenkinsfile.builds.processes.end.__defaults__", (0.2,))
    steps = "timeout(time: 300, unit: 'MILLISECONDS') { sh 'trap \"\" TERM; while :; do sleep 0.1; done' }"
    assert build(tmp_path, pipeline(steps)).result == "ABORTED"


def test_what_a_build_leaves_running_is_ended_but_not_who_opts_out(tmp_path):
    finished = build(tmp_path, pipeline(FAMILY.replace("{then}", "true")))
    assert finished.result == "SUCCESS"
    assert not alive(pids(tmp_path)["grandchild"])
    assert alive(pids(tmp_path)["daemon"])


def test_the_next_run_ends_what_a_killed_runner_left(tmp_path):
    text = pipeline(FAMILY.replace("{then}", "sleep 300"), "options { disableConcurrentBuilds() }")
    process = ct_run(tmp_path, text)
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip())
    process.kill()
    process.wait()
    assert alive(pids(tmp_path)["child"])
    assert records(tmp_path)[-1]["state"] == "running"
    finished = build(tmp_path, pipeline("echo 'next'", "options { disableConcurrentBuilds() }"))
    assert [one["result"] for one in records(tmp_path)] == ["ABORTED", "SUCCESS"]
    assert any(line.startswith("build 1 was killed: ended ") for line in finished.lines)
    running = {name: alive(pid) for name, pid in pids(tmp_path).items()}
    assert running == {"child": False, "grandchild": False, "daemon": True}


def test_a_second_run_waits_for_the_first(tmp_path):
    wait = "sh 'touch running; while ! test -e go; do sleep 0.05; done'"
    text = pipeline(wait, "options { disableConcurrentBuilds() }")
    first = ct_run(tmp_path, text)
    until((tmp_path / "running").exists)
    second = ct_run(tmp_path, text)
    assert second.stdout.readline() == "waiting for build 1 to finish (disableConcurrentBuilds)\n"
    assert len(records(tmp_path)) == 1
    (tmp_path / "go").touch()
    assert [first.wait(30), second.wait(30)] == [0, 0]
    assert [one["number"] for one in records(tmp_path)] == [1, 2]
    first.communicate()
    second.communicate()


@pytest.mark.parametrize(
    ("text", "arguments", "code", "message"),
    [
        (pipeline("echo 'hello'"), [], 0, "hello"),
        (pipeline("error 'no'"), [], 1, "ERROR: no"),
        (pipeline("docker 'x'"), [], 2, "Jenkinsfile:6: the step «docker» is not supported by ct run"),
        (pipeline("echo 'hello'"), ["-P", "X=1"], 2, "there is no parameter «X»; there are: none"),
        (pipeline("echo 'hello'"), ["--from", "Z"], 2, "there is no stage «Z» to start from; there are: Only"),
        (pipeline("echo 'hello'"), ["--jenkinsfile", "other"], 2, "other"),
        ("pipeline {", [], 2, "Jenkinsfile:1:11: the file ends, and its braces or quotes are not closed"),
        (
            pipeline("echo 'hello'", "parameters { choice(name: 'C', choices: 'a\\nb') }"),
            ["--list"],
            0,
            "  C=a  one of a, b",
        ),
    ],
)
def test_the_command_line(tmp_path, text, arguments, code, message):
    process = ct_run(tmp_path, text, *arguments)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == code, output
    assert any(line.startswith(message) or message in line for line in output.splitlines()), output
    assert "Traceback" not in output
    assert (tmp_path / ".ct").exists() == (code < 2 and "--list" not in arguments)


def test_the_reader_of_a_pipe_may_leave(tmp_path):
    process = ct_run(tmp_path, pipeline("sh 'echo one; while ! test -e go; do sleep 0.05; done; echo two; touch done'"))
    process.stdout.readline()
    process.stdout.close()
    (tmp_path / "go").touch()
    process.wait(30)
    assert (tmp_path / "done").exists()
    assert "two" in (tmp_path / ".ct/builds/1/log").read_text().splitlines()
