"""`input`: what a person at the terminal is asked, and what the answer does; as a step, and as a section of a stage."""

from __future__ import annotations

import getpass
import io
import os
import pty

import pytest

from local_build import at_terminal, build, pipeline

STEP = "stage('A') {\nsteps {\ninput message: 'Go on?', ok: 'Ship'\necho 'went on'\n}\n}"
SECTION = "stage('A') {\ninput {\nmessage 'Go on?'\nok 'Ship'\n}\nsteps { echo 'went on' }\n}"


@pytest.fixture
def keyboard(monkeypatch):
    """A terminal as standard input; what is written to the descriptor is typed there."""
    typed, terminal = pty.openpty()
    with os.fdopen(terminal) as stream, monkeypatch.context() as patched:
        patched.setattr("sys.stdin", stream)
        yield typed
    os.close(typed)


@pytest.mark.parametrize(
    ("stage", "typed", "code"),
    [(STEP, "y\n", 0), (STEP, "ship\n", 0), (STEP, "\n", 130), (SECTION, "YES\n", 0), (SECTION, "n\n", 130)],
)
def test_only_a_yes_goes_on(tmp_path, stage, typed, code):
    finished, lines = at_terminal(tmp_path, pipeline(stage), typed=typed)
    at = lines.index("Go on?")
    assert lines[at + 1] == "[Ship: y, Abort: n]"
    assert lines[at + 2] == ("ERROR: «Go on?» was answered with no" if code else f"Approved by {getpass.getuser()}")
    assert (finished, "went on" in lines) == (code, not code)


@pytest.mark.parametrize("stage", [STEP, SECTION])
def test_with_nobody_at_a_terminal_the_stage_is_aborted(tmp_path, monkeypatch, stage):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    finished = build(tmp_path, pipeline(stage))
    assert (finished.result, finished.stages) == ("ABORTED", {"A": "ABORTED"})
    assert "ERROR: «Go on?» waits for an answer, and nobody is at the terminal" in finished.lines
    assert "went on" not in finished.lines


@pytest.mark.parametrize(
    "stage",
    [
        "stage('A') {\nsteps { timeout(time: 100, unit: 'MILLISECONDS') { input 'Go on?' } }\n}",
        STEP.replace("steps", "options { timeout(time: 100, unit: 'MILLISECONDS') }\nsteps"),
        SECTION.replace("steps", "options { timeout(time: 100, unit: 'MILLISECONDS') }\nsteps"),
    ],
)
@pytest.mark.usefixtures("keyboard")
def test_the_wait_ends_with_its_timeout(tmp_path, stage):
    finished = build(tmp_path, pipeline(stage))
    assert (finished.result, finished.stages) == ("ABORTED", {"A": "ABORTED"})
    assert "ERROR: the timeout of 0.1 s has been exceeded" in finished.lines
    assert "went on" not in finished.lines


def test_keys_that_were_pressed_before_the_question_are_no_answer(tmp_path, keyboard):
    os.write(keyboard, b"y\n")
    steps = "timeout(time: 100, unit: 'MILLISECONDS') { input 'Go on?' }"
    assert build(tmp_path, pipeline(steps)).result == "ABORTED"


def test_a_message_of_many_lines_is_shown_whole_and_its_first_line_names_the_question(tmp_path, monkeypatch):
    (tmp_path / "why.txt").write_text("Promote version 4?\n\n  better by 0.02\n  on 25,363 rows\n")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    finished = build(tmp_path, pipeline("input message: readFile('why.txt'), submitter: 'admin,approver'"))
    at = finished.lines.index("Promote version 4?")
    assert finished.lines[at + 1 : at + 4] == ["", "  better by 0.02", "  on 25,363 rows"]
    assert "ERROR: «Promote version 4?» waits for an answer, and nobody is at the terminal" in finished.lines


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (pipeline("echo \"by ${input(message: 'Go on?', submitterParameter: 'WHO')}\""), f"by {getpass.getuser()}"),
        (pipeline("echo \"by ${input('Go on?')}\""), "by null"),
        (
            pipeline(
                "stage('A') {\ninput {\nmessage 'Go on?'\nsubmitterParameter 'WHO'\n}\nsteps { echo \"by ${WHO}\" }\n}"
            ),
            f"by {getpass.getuser()}",
        ),
    ],
)
def test_who_approved_is_known_where_the_submitter_parameter_asks_for_it(tmp_path, stage, message):
    code, lines = at_terminal(tmp_path, stage, typed="y\n")
    assert code == 0
    assert message in lines
