"""Lint: style, mistakes, types and imports; strict for the framework, lenient for models.

pyproject.toml holds the rules. Of a model's package and its tests only errors count: what pyflakes finds, and the types
where the package has annotations. A ruff.toml, or a pyproject.toml with a section `[tool.ruff]`, in a model's folder
replaces these rules there.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.documents import Tool
from continuous_training.stages import source_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

NAME = "lint"
INPUTS = ("src", "tests", "scripts", "jenkins", *source_tree.SETTINGS)
LINT_IMPORTS = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
# Not those of pyproject.toml, which are strict
MODEL_TYPES = ("--config-file=", "--explicit-package-bases", "--disable-error-code=import-untyped")


def lint() -> list[Tool]:
    """Run every tool to its end, also after another failed."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda check: check(), checks().values()))


def checks() -> Mapping[str, Callable[[], Tool]]:
    """Return what runs each tool, by the tool's name."""
    strict = [path for path in (*source_tree.FRAMEWORK, *source_tree.TOOL) if Path(path).is_dir()]
    commands = {
        "ruff": ["-m", "ruff", "check", "."],
        "format": ["-m", "ruff", "format", "--check", *strict],
        "mypy": ["-m", "mypy"],
        "imports": ["-c", LINT_IMPORTS],
    }
    packages = [source_tree.SOURCES / model for model in source_tree.find_models()]
    for package in filter(has_annotations, packages):
        # A cache of its own, because mypy checks a file again when its options change
        cache = f"--cache-dir=.mypy_cache/{package.name}"
        commands[f"mypy of {package.name}"] = ["-m", "mypy", *MODEL_TYPES, cache, package.as_posix()]
    programs = {name: partial(_run, name, arguments) for name, arguments in commands.items()}
    return programs | {f"imports of {package.name}": partial(_check_imports, package) for package in packages}


def has_annotations(package: Path) -> bool:
    """Tell whether a package has a type annotation."""
    nodes = (node for _, tree in _parse(package) for node in ast.walk(tree))
    return any(getattr(node, "annotation", None) or getattr(node, "returns", None) for node in nodes)


def missing_imports(package: Path) -> list[str]:
    """List the imports of modules that are not installed, with file and line; those inside `try` are optional."""
    return [
        f"{path}:{line}: no module named {name}: add it to pyproject.toml and to a lock (see CONTRIBUTING.md)"
        for path, tree in _parse(package)
        for line, name in _imports(tree)
        if name != package.name and importlib.util.find_spec(name) is None
    ]


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Give the line and the top-level name of each absolute import outside `try`."""
    optional = {child for node in ast.walk(tree) if isinstance(node, ast.Try) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if node in optional:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]


def _check_imports(package: Path) -> Tool:
    missing = missing_imports(package)
    return Tool(
        name=f"imports of {package.name}",
        command=f"imports of {package.as_posix()}",
        passed=not missing,
        output="\n".join(missing),
    )


def _parse(package: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Parse a package's files; ruff reports those that cannot be parsed."""
    for path in sorted(package.rglob("*.py")):
        try:
            yield path, ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue


def _run(name: str, arguments: list[str]) -> Tool:
    process = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"MYPYPATH": source_tree.SOURCES.as_posix()},
        capture_output=True,
        text=True,
        check=False,
    )
    command = "lint-imports" if arguments[0] == "-c" else " ".join(arguments[1:])
    output = (process.stdout + process.stderr).strip()
    return Tool(name=name, command=command, passed=process.returncode == 0, output=output)
