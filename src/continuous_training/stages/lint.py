"""Lint: style, mistakes and types of the whole code, the model's included."""

from __future__ import annotations

import subprocess
import sys

from continuous_training.documents import Tool

COMMANDS = {
    "ruff": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
}


def lint() -> list[Tool]:
    """Run every tool to its end, also after one has failed; what they look at is set in pyproject.toml."""
    return [_run(name, arguments) for name, arguments in COMMANDS.items()]


def _run(name: str, arguments: list[str]) -> Tool:
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)
    message = (done.stdout + done.stderr).strip()
    return Tool(name=name, command=" ".join(arguments), passed=done.returncode == 0, output=message)
