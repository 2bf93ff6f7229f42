"""Runs a Jenkinsfile in a temporary workspace, in this process or as its users do."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from jenkinsfile.execution.runner import RunOptions, run_pipeline
from jenkinsfile.syntax.parser import parse
from jenkinsfile.validation import validate

PROMPT = ", Abort: n]\n"


@dataclass(frozen=True)
class BuildOutcome:
    """The exit code, the console, the record and the folder of a build."""

    code: int
    lines: list[str]
    record: dict
    folder: Path

    @property
    def result(self) -> str:
        return self.record["result"]

    @property
    def stages(self) -> dict[str, str]:
        return {stage["name"]: stage["result"] for stage in self.record["stages"]}


def pipeline(stages: str, *sections: str, post: str = "") -> str:
    """Return a pipeline with these stages. Text without `stage(...)` becomes the steps of the only stage."""
    if "stage(" not in stages:
        stages = f"stage('Only') {{\n steps {{\n{stages}\n }}\n}}"
    post_section = f"post {{\n{post}\n}}" if post else ""
    return "\n".join(["pipeline {", "agent any", *sections, "stages {", stages, "}", post_section, "}"])


def run_build(
    workspace: Path,
    text: str,
    *assignments: str,
    branch: str | None = None,
    start_stage: str | None = None,
    environment: dict[str, str] | None = None,
) -> BuildOutcome:
    """Run a Jenkinsfile in this process. The test fails if the Jenkinsfile is not valid."""
    machine = {"PATH": os.environ["PATH"], **(environment or {})}
    parsed_pipeline = parse(text)
    validation = validate(parsed_pipeline, machine)
    assert not validation.errors, [str(error) for error in validation.errors]
    options = RunOptions(workspace, branch, assignments, start_stage)
    with contextlib.redirect_stdout(io.StringIO()) as console:
        code = run_pipeline(parsed_pipeline, validation.credentials, options, machine)
    folder = max((workspace / ".ct/builds").iterdir(), key=lambda path: int(path.name))
    record = json.loads((folder / "build.json").read_text())
    return BuildOutcome(code, console.getvalue().splitlines(), record, folder)


def start_run(workspace: Path, text: str, *arguments: str, **options) -> subprocess.Popen:
    """Start `python -m jenkinsfile run` in a process."""
    (workspace / "Jenkinsfile").write_text(text)
    return subprocess.Popen(
        [sys.executable, "-m", "jenkinsfile", "run", *arguments],
        cwd=workspace,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **{"stdin": subprocess.DEVNULL, **options},
    )


def run_at_terminal(workspace: Path, text: str, *arguments: str, keys: str) -> tuple[int, list[str]]:
    """Run at a terminal where a user presses keys when `input` waits. Returns the exit code and the console."""
    keyboard, terminal = pty.openpty()
    lines = []
    try:
        with start_run(workspace, text, *arguments, stdin=terminal) as process:
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if line.endswith(PROMPT):
                    os.write(keyboard, keys.encode())
    finally:
        os.close(keyboard)
        os.close(terminal)
    return process.returncode, lines
