"""Runs a Jenkinsfile in a workspace of its own, for the tests beside this file."""

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

from jenkinsfile.execution.runner import Order, run
from jenkinsfile.syntax.parser import parse
from jenkinsfile.validation import examine

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Finished:
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
    """A pipeline around stages; `stages` without a `stage(...)` are the steps of the only one."""
    if "stage(" not in stages:
        stages = f"stage('Only') {{\n steps {{\n{stages}\n }}\n}}"
    after = f"post {{\n{post}\n}}" if post else ""
    return "\n".join(["pipeline {", "agent any", *sections, "stages {", stages, "}", after, "}"])


def build(
    workspace: Path,
    text: str,
    *parameters: str,
    branch: str = "main",
    start: str | None = None,
    machine: dict[str, str] | None = None,
) -> Finished:
    """Run a Jenkinsfile in this process; whatever is refused fails the test."""
    environment = {"PATH": os.environ["PATH"], **(machine or {})}
    parsed = parse(text)
    findings = examine(parsed, environment)
    assert not findings.refusals, [str(one) for one in findings.refusals]
    with contextlib.redirect_stdout(io.StringIO()) as console:
        code = run(parsed, findings, Order(workspace, branch, parameters, start), environment)
    folder = max((workspace / ".ct/builds").iterdir(), key=lambda one: int(one.name))
    record = json.loads((folder / "build.json").read_text())
    return Finished(code, console.getvalue().splitlines(), record, folder)


def ct_run(workspace: Path, text: str, *arguments: str, **options) -> subprocess.Popen:
    """Start `ct run` as its users do."""
    (workspace / "Jenkinsfile").write_text(text)
    return subprocess.Popen(
        [sys.executable, ROOT / "scripts/run.py", *arguments],
        cwd=workspace,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **{"stdin": subprocess.DEVNULL, **options},
    )


def at_terminal(workspace: Path, text: str, *arguments: str, typed: str) -> tuple[int, list[str]]:
    """Run `ct run` at a terminal where somebody types once a question is there; gives its exit code and its lines."""
    keyboard, terminal = pty.openpty()
    lines = []
    try:
        with ct_run(workspace, text, *arguments, stdin=terminal) as process:
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if line.endswith(", Abort: n]\n"):
                    os.write(keyboard, typed.encode())
    finally:
        os.close(keyboard)
        os.close(terminal)
    return process.returncode, lines
