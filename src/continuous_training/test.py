"""Test: pytest, with its results in the form that Jenkins reads."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from continuous_training.documents import BUILD

if TYPE_CHECKING:
    from pathlib import Path

JUNIT = BUILD / "junit" / "tests.xml"
QUICK = ("-m", "not integration")
AT_ONCE = ("-n", "auto", "--maxprocesses=4", "--dist=worksteal")  # each process takes seconds to import what it tests


def test(*arguments: str) -> int:
    """Run pytest with the given arguments; return its exit code and leave its results in build/junit/tests.xml."""
    command = [sys.executable, "-m", "pytest", f"--junitxml={JUNIT}", *AT_ONCE, *arguments]
    return subprocess.run(command, check=False).returncode


def counts(path: Path) -> tuple[int, int, int, list[str]]:
    """Read a JUnit file: how many tests passed, failed and were skipped, and the names of the failed ones."""
    cases = ET.parse(path).getroot().iter("testcase")  # noqa: S314 - pytest has just written it
    passed, skipped, failures = 0, 0, []
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            failures.append(f"{case.get('classname')}.{case.get('name')}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, len(failures), skipped, failures
