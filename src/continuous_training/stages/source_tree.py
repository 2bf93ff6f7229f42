"""Which folders hold the framework, the Jenkinsfile tool and the models."""

from __future__ import annotations

from pathlib import Path

SOURCES, TESTS = Path("src"), Path("tests")
FRAMEWORK_PACKAGE, TOOL_PACKAGE = "continuous_training", "jenkinsfile"

FRAMEWORK = ("jenkins", "scripts", f"src/{FRAMEWORK_PACKAGE}", "tests/benchmarks", f"tests/{FRAMEWORK_PACKAGE}")
TOOL = (f"src/{TOOL_PACKAGE}", f"tests/{TOOL_PACKAGE}")
SETTINGS = ("pyproject.toml", "requirements.lock")  # of the linters, the tests and the environment


def find_models() -> list[str]:
    """List the packages under src/ that are neither the framework nor the tool."""
    return sorted({path.parent.name for path in SOURCES.glob("*/*.py")} - {FRAMEWORK_PACKAGE, TOOL_PACKAGE})
