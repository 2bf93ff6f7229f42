"""The command line: exit codes, messages, and that `list` runs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jenkinsfile import cli
from local_build import pipeline, start_run

CHOICE = "parameters { choice(name: 'C', choices: 'a\\nb') }"


def call(monkeypatch, workspace, text: str, *arguments: str) -> int:
    """Call the command line in this process."""
    (workspace / "Jenkinsfile").write_text(text)
    monkeypatch.chdir(workspace)
    monkeypatch.setattr("sys.argv", ["jenkinsfile", *arguments])
    return cli.main()


@pytest.mark.parametrize(
    ("text", "arguments", "code", "message"),
    [
        (pipeline("echo 'hello'"), ["run"], 0, "hello"),
        (pipeline("error 'no'"), ["run"], 1, "ERROR: no"),
        (pipeline("docker 'x'"), ["run"], 2, "Jenkinsfile:6: the step 'docker' is not supported by a local run"),
        (pipeline("echo 'hello'"), ["run", "-P", "X=1"], 2, "there is no parameter 'X'; the parameters are: none"),
        (
            pipeline("echo 'hello'"),
            ["run", "--from", "Z"],
            2,
            "there is no stage 'Z' to start from; the stages are: Only",
        ),
        (pipeline("echo 'hello'"), ["run", "--from", "Only"], 2, "there is no build to restart from stage 'Only'"),
        (pipeline("echo 'hello'"), ["run", "--jenkinsfile", "other"], 2, "cannot read other"),
        ("pipeline {", ["run"], 2, "Jenkinsfile:1:11: the file ends before all braces and quotes are closed"),
        ("pipeline {", ["list"], 2, "Jenkinsfile:1:11: the file ends before all braces and quotes are closed"),
        (pipeline("echo 'hello'", CHOICE), ["list"], 0, "  C=a  one of a, b"),
        (pipeline("echo 'hello'", CHOICE), ["list"], 0, "    echo hello"),
    ],
)
def test_exit_codes_and_messages(tmp_path, monkeypatch, capfd, text, arguments, code, message):
    assert call(monkeypatch, tmp_path, text, *arguments) == code
    output, errors = capfd.readouterr()
    assert any(message in line for line in (output + errors).splitlines())
    assert (errors.count("\n") == 1) == (code == 2)
    assert (tmp_path / ".ct").exists() == (code < 2 and "run" in arguments)


def test_the_module_is_a_program(tmp_path):
    process = start_run(tmp_path, pipeline("sh 'exit 3'"))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Finished: FAILURE" in output.splitlines()


@pytest.mark.parametrize("command", ["run", "list"])
def test_help_has_the_options(command):
    arguments = [sys.executable, "-m", "jenkinsfile", command, "--help"]
    output = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=300).stdout
    assert "--jenkinsfile FILE" in output


def test_list_and_help_import_neither_the_runner_nor_its_dependencies(tmp_path):
    (tmp_path / "Jenkinsfile").write_text(pipeline("echo 'hello'"))
    program = """
import sys
from jenkinsfile import cli
sys.argv = ["jenkinsfile", "list"]
cli.main()
print(sorted({"rich", "psutil", "jenkinsfile.execution", "continuous_training"} & set(sys.modules)))
"""
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300
    )
    assert process.stdout.splitlines()[-1] == "[]"
