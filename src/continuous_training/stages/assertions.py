"""Which tests of a file assert nothing: they pass whatever the model does."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
PYTEST = {"raises", "warns", "fail", "deprecated_call"}


def find_tests_without_assertion(path: Path) -> list[str]:
    """Return the tests that neither assert nor call a function that does.

    An assertion is an `assert` of more than a constant, `pytest.raises`, `warns` or `fail`, and any call of a function
    whose name begins with assert, as those of `numpy.testing`, `pandas.testing` and `unittest` do. It counts in the
    test itself and in the functions and methods of its file that it calls.

    Args:
        path: a file that Python can compile.

    Returns:
        Names as `test_a` or `TestClass.test_a`, in the order of the file.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions: dict[str, list[Function]] = {}
    for node in ast.walk(tree):
        if isinstance(node, Function):
            functions.setdefault(node.name, []).append(node)
    asserting = {name for name, nodes in functions.items() if any(map(_asserts, nodes))}
    while callers := {name for name in functions.keys() - asserting if _call_any(functions[name], asserting)}:
        asserting |= callers
    return [name for name, node in _tests(tree.body) if not (_asserts(node) or _call_any([node], asserting))]


def _tests(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function]]:
    for node in body:
        if isinstance(node, Function) and node.name.startswith("test"):
            yield f"{prefix}{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from _tests(node.body, f"{prefix}{node.name}.")


def _asserts(function: Function) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant):
            return True
        if isinstance(node, ast.Call):
            name = _name(node)
            if name.startswith("assert") or (name in PYTEST and _is_of_pytest(node)):
                return True
    return False


def _call_any(functions: list[Function], names: set[str]) -> bool:
    """Tell whether one of the functions calls a function or a method of one of these names."""
    return any(isinstance(node, ast.Call) and _name(node) in names for each in functions for node in ast.walk(each))


def _name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_of_pytest(call: ast.Call) -> bool:
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    return owner is None or getattr(owner, "id", "") == "pytest"
