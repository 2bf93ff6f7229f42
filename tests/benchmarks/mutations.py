"""Small faults planted in the framework: the share in each folder that the tests of its folder notice.

A fault is a comparison turned, a constant changed, a sign, an operator or a condition swapped. Each is imported in
place of its module by a process that has the libraries already, so that one takes a second or two. The tests must pass
without a fault. Subprocesses of tests have none, so a test in which all happens in others notices none.

.venv/bin/python tests/benchmarks/mutations.py comparison                     # all of them: an hour for comparison
.venv/bin/python tests/benchmarks/mutations.py comparison --sample 100
.venv/bin/python tests/benchmarks/mutations.py comparison --module rules,cases --tests tests/…/comparison/test_rules.py
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec

SOURCES, TESTS = Path("src/continuous_training"), Path("tests/continuous_training")
LIBRARIES = ("hypothesis", "mlflow", "numpy", "pandas", "pydantic", "pytest", "scipy.stats", "sklearn.metrics", "yaml")
SECONDS = 200.0  # after which a fault counts as noticed: it does not end
SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
}


@dataclass(frozen=True)
class Fault:
    """A module's source with one fault, and what the fault is."""

    module: str
    line: int
    what: str
    source: str


def plant_faults(path: Path) -> Iterator[Fault]:
    """Yield each fault that a module can have, one at a time."""
    module = ".".join(path.relative_to("src").with_suffix("").parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for number, node in enumerate(ast.walk(tree)):
        for place in range(len(_variants(node))):
            changed = copy.deepcopy(tree)
            twin = next(each for index, each in enumerate(ast.walk(changed)) if index == number)
            what, (field, value) = _variants(twin)[place]
            setattr(twin, field, value)
            yield Fault(module, getattr(node, "lineno", 0), what, ast.unparse(ast.fix_missing_locations(changed)))


def _variants(node: ast.AST) -> list[tuple[str, tuple[str, Any]]]:
    """Return the faults of a node: what each is, the field that it changes, and the field's other value."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return [(_swap(node.ops[0], other), ("ops", [other()])) for other in SWAPS.get(type(node.ops[0]), ())]
    if isinstance(node, ast.BoolOp | ast.BinOp):
        return [(_swap(node.op, other), ("op", other())) for other in SWAPS.get(type(node.op), ())]
    if isinstance(node, ast.IfExp | ast.If) and ast.unparse(node.test) != "TYPE_CHECKING":
        return [("condition turned", ("test", ast.UnaryOp(ast.Not(), node.test)))]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return [("sign removed", ("op", ast.UAdd()))]
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        other = not node.value if isinstance(node.value, bool) else node.value + 1
        return [(f"{node.value} to {other}", ("value", other))]
    return []


def _swap(before: ast.AST, after: type[ast.AST]) -> str:
    return f"{type(before).__name__} to {after.__name__}"


class Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module with its fault."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return where the module is, if it is the one with the fault."""
        return importlib.util.spec_from_loader(name, self) if name == self._fault.module else None

    def exec_module(self, module: Any) -> None:
        """Run the source with the fault."""
        exec(compile(self._fault.source, self._fault.module, "exec"), module.__dict__)


def is_noticed(fault: Fault | None, tests: list[str]) -> bool:
    """Run the tests with the fault in a process of its own; return whether they fail, or do not end."""
    process = os.fork()
    if not process:
        _run_tests(fault, tests)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status != 0
        time.sleep(0.02)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def _run_tests(fault: Fault | None, tests: list[str]) -> None:
    import pytest

    os.setpgrp()
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    if fault:
        sys.meta_path.insert(0, Importer(fault))
    try:
        status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-n", "0", *tests])
    except BaseException:
        status = 1
    os._exit(int(status))


def main() -> None:
    """Plant the faults of the folders, and print those that are not noticed, and the share of the others."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="below src/continuous_training")
    parser.add_argument("--sample", type=int, help="how many faults of each folder, chosen by chance")
    parser.add_argument("--module", default="", help="only those of these modules, by names with commas between")
    parser.add_argument("--tests", nargs="*", help="the tests; by default the folder's of the same name")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    for library in LIBRARIES:
        importlib.import_module(library)
    for folder in arguments.folders:
        tests = arguments.tests or [str(TESTS / folder)]
        modules = [path for path in sorted((SOURCES / folder).rglob("*.py")) if path.stem != "__init__"]
        names = set(filter(None, arguments.module.split(",")))
        faults = [fault for path in modules if not names or path.stem in names for fault in plant_faults(path)]
        if arguments.sample and arguments.sample < len(faults):
            faults = sorted(random.Random(0).sample(faults, arguments.sample), key=lambda fault: fault.module)
        if is_noticed(None, tests):
            raise SystemExit(f"{folder}: the tests fail without a fault, or take more than {SECONDS:g} s: {tests}")
        total, noticed = Counter(fault.module for fault in faults), Counter[str]()
        with ThreadPoolExecutor(arguments.processes) as pool:
            for fault, result in zip(faults, pool.map(is_noticed, faults, [tests] * len(faults)), strict=True):
                noticed[fault.module] += result
                if not result:
                    print(f"  {fault.module.rpartition('.')[2]}.py:{fault.line}: {fault.what}", flush=True)
        for module, number in total.items():
            print(f"{noticed[module]:>5} of {number:>4}  {module.removeprefix('continuous_training.')}")
        share = noticed.total() / max(1, total.total())
        print(f"{folder}: {noticed.total():,} of {total.total():,} faults are noticed, {share:.1%}", flush=True)


if __name__ == "__main__":
    main()
