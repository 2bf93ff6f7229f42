"""`input`, as a step and as a section of a stage: the approval by a user at a terminal."""

from __future__ import annotations

import getpass
import io
import os
import pty

import pytest

from jenkinsfile.steps import input_step
from local_build import pipeline, run_at_terminal, run_build

STEP = "stage('A') {\nsteps {\ninput message: 'Go on?', ok: 'Ship'\necho 'went on'\n}\n}"
SECTION = "stage('A') {\ninput {\nmessage 'Go on?'\nok 'Ship'\n}\nsteps { echo 'went on' }\n}"
TIMEOUT = "timeout(time: 100, unit: 'MILLISECONDS')"


@pytest.fixture
def keyboard(monkeypatch):
    """Make a terminal the standard input; yield the descriptor to which a test writes the keys of a user."""
    keys, terminal = pty.openpty()
    with os.fdopen(terminal) as stream, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", stream)
        yield keys
    os.close(keys)


@pytest.fixture
def press_at_prompt(keyboard, monkeypatch):
    """Return a function that sets the keys to press when `input` waits, after it has discarded earlier keys."""
    read_answer = input_step._read_answer

    def press(keys: str) -> None:
        def press_and_read(context):
            os.write(keyboard, keys.encode())
            return read_answer(context)

        monkeypatch.setattr(input_step, "_read_answer", press_and_read)

    return press


@pytest.mark.parametrize(
    ("stage", "keys", "code"),
    [(STEP, "y\n", 0), (STEP, "ship\n", 0), (STEP, "\n", 130), (SECTION, "YES\n", 0), (SECTION, "n\n", 130)],
)
def test_only_yes_continues(tmp_path, press_at_prompt, stage, keys, code):
    press_at_prompt(keys)
    outcome = run_build(tmp_path, pipeline(stage))
    start = outcome.lines.index("Go on?")
    answer = "ERROR: 'Go on?' was rejected" if code else f"Approved by {getpass.getuser()}"
    assert outcome.lines[start + 1 : start + 3] == ["[Ship: y, Abort: n]", answer]
    assert (outcome.code, "went on" in outcome.lines) == (code, not code)


def test_a_user_answers_at_a_real_terminal(tmp_path):
    code, lines = run_at_terminal(tmp_path, pipeline(STEP), keys="y\n")
    assert code == 0
    assert lines[lines.index("[Ship: y, Abort: n]") + 1] == f"Approved by {getpass.getuser()}"


@pytest.mark.parametrize("stage", [STEP, SECTION])
def test_without_a_terminal_the_stage_is_aborted(tmp_path, monkeypatch, stage):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    outcome = run_build(tmp_path, pipeline(stage))
    assert (outcome.result, outcome.stages) == ("ABORTED", {"A": "ABORTED"})
    assert "ERROR: 'Go on?' needs an answer, and there is no terminal: run it from one" in outcome.lines
    assert "went on" not in outcome.lines


@pytest.mark.parametrize(
    "stage",
    [
        f"stage('A') {{\nsteps {{ {TIMEOUT} {{ input 'Go on?' }} }}\n}}",
        STEP.replace("steps", f"options {{ {TIMEOUT} }}\nsteps"),
        SECTION.replace("steps", f"options {{ {TIMEOUT} }}\nsteps"),
    ],
)
@pytest.mark.usefixtures("keyboard")
def test_a_timeout_interrupts_the_wait(tmp_path, stage):
    outcome = run_build(tmp_path, pipeline(stage))
    assert (outcome.result, outcome.stages) == ("ABORTED", {"A": "ABORTED"})
    assert "ERROR: the timeout of 0.1 s has been exceeded" in outcome.lines
    assert "went on" not in outcome.lines


def test_keys_that_were_pressed_before_the_message_are_discarded(tmp_path, keyboard):
    os.write(keyboard, b"y\n")
    assert run_build(tmp_path, pipeline(f"{TIMEOUT} {{ input 'Go on?' }}")).result == "ABORTED"


def test_a_message_of_several_lines_is_printed_whole_and_errors_have_its_first_line(tmp_path, monkeypatch):
    (tmp_path / "why.txt").write_text("Promote version 4?\n\n  better by 0.02\n  on 25,363 rows\n")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    outcome = run_build(tmp_path, pipeline("input message: readFile('why.txt'), submitter: 'admin,approver'"))
    start = outcome.lines.index("Promote version 4?")
    assert outcome.lines[start + 1 : start + 4] == ["", "  better by 0.02", "  on 25,363 rows"]
    assert "ERROR: 'Promote version 4?' needs an answer, and there is no terminal: run it from one" in outcome.lines


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
def test_the_submitter_parameter_has_the_user_who_approved(tmp_path, press_at_prompt, stage, message):
    press_at_prompt("y\n")
    outcome = run_build(tmp_path, stage)
    assert outcome.code == 0
    assert message in outcome.lines
