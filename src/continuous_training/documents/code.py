"""What the stages before the snapshot say of the code."""

from __future__ import annotations

from typing import ClassVar

from continuous_training.documents.document import Document
from continuous_training.documents.values import Value


class Tool(Value):
    """One linter, and its output."""

    name: str
    command: str
    passed: bool
    output: str


class Lint(Document):
    """Lint: the results of the linters and the type checker."""

    stem: ClassVar[str] = "lint"
    command: ClassVar[str] = "lint"

    tools: list[Tool]
    earlier_run: str | None = None  # which linted the same code; then no tool ran in this one


class Tests(Document):
    """Test: the number of tests, and the names of those that failed."""

    stem: ClassVar[str] = "tests"
    command: ClassVar[str] = "test"
    __test__: ClassVar[bool] = False  # pytest: not a class of tests

    passed: int
    failed: int
    skipped: int
    failures: list[str]
    earlier_run: str | None = None  # which tested the same code, and whose counts these are


class FrameworkTests(Tests):
    """Test the framework: the same of the tests of the framework and the Jenkinsfile tool."""

    stem: ClassVar[str] = "framework_tests"
