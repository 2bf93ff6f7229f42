"""Lint: all rules for the framework, only errors for a model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT
from continuous_training.stages import lint, source_tree

if TYPE_CHECKING:
    from continuous_training.documents import Tool


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter a workspace with this repository's rules and a model without annotations or docstrings."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("src/continuous_training", "src/jenkinsfile", "src/bikes", "scripts", "tests/bikes"):
        Path(package).mkdir(parents=True)
        Path(package, "__init__.py").write_text('"""A package."""\n')
    write("import numpy as np\ndef build(C=[], **kw):\n  l = np.zeros( 3 )\n  return l.any() == True\n")


def write(text: str, path: str = "src/bikes/model.py") -> None:
    Path(path).write_text(text)


def failures(*names: str) -> dict[str, Tool]:
    """Run these tools; return those that failed."""
    checks = lint.checks()
    tools = [checks[name]() for name in names]
    return {tool.name: tool for tool in tools if not tool.passed}


def test_the_style_of_a_model_and_its_tests_is_not_checked() -> None:
    write("def test_it( ):\n  import os; assert os.sep == '/' and 1\n", "tests/bikes/test_model.py")
    assert failures("ruff", "format") == {}


@pytest.mark.parametrize(
    ("text", "tool", "message"),
    [
        ("x = undefined\n", "ruff", "F821 Undefined name `undefined`"),
        ("import os\n", "ruff", "F401"),
        ("def f(:\n", "ruff", "invalid-syntax"),
        ("import no_such_library\n\nno_such_library.f()\n", "imports of bikes", "model.py:1: no module named no_such"),
        ("def f(x: int) -> str:\n    return x\n", "mypy of bikes", "Incompatible return value type"),
    ],
)
def test_an_error_in_a_model_is_reported(text: str, tool: str, message: str) -> None:
    write(text)
    results = failures(tool)
    assert message in results[tool].output


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import no_such_library\nexcept ImportError:\n    no_such_library = None\n",
        "from bikes import features\nfrom . import features as same\n\nprint(features, same)\n",
    ],
    ids=["optional", "its own"],
)
def test_optional_imports_and_imports_of_the_package_are_accepted(text: str) -> None:
    write("", "src/bikes/features.py")
    write(text)
    assert failures("ruff", "imports of bikes") == {}


def test_types_of_a_model_are_checked_if_it_has_annotations() -> None:
    assert not lint.has_annotations(Path("src/bikes"))
    write("def build(**parameters: object):\n    return parameters\n")
    assert lint.has_annotations(Path("src/bikes"))
    assert failures("mypy of bikes") == {}


def test_a_model_can_have_its_own_rules() -> None:
    write('[lint]\nselect = ["D"]\n', "src/bikes/ruff.toml")
    assert "D103" in failures("ruff")["ruff"].output


def test_the_framework_is_checked_with_all_rules() -> None:
    write("def f(a, b=[]):\n    return a\n", "src/continuous_training/module.py")
    results = failures("ruff", "mypy")
    assert {"ANN001", "B006", "D100", "D103"} <= set(results["ruff"].output.split())
    assert "Function is missing a type annotation" in results["mypy"].output


def test_every_folder_belongs_to_the_framework_the_tool_or_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new folder of Python files would otherwise be linted as leniently as a model, or not be formatted."""
    monkeypatch.chdir(ROOT)
    parts = (*source_tree.FRAMEWORK, *source_tree.TOOL)
    models = {f"{folder}/{model}" for model in source_tree.find_models() for folder in ("src", "tests")}
    strict = {path for path in parts if Path(path).is_dir()}
    assert strict == set(parts)
    folders = {
        path.as_posix() for parent in ("src", "tests") for path in Path(parent).iterdir() if any(path.glob("*.py"))
    }
    assert folders <= strict | models
