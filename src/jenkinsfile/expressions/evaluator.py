"""The Groovy expressions of a declarative pipeline: reading and evaluating them, without `eval`."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput
from lark.visitors import Interpreter

from jenkinsfile.expressions import methods, operators
from jenkinsfile.expressions.values import EvaluationError, Value, kind, member_of, text, truth
from jenkinsfile.syntax.model import Expression, JenkinsfileError, Position
from jenkinsfile.syntax.string_literals import content, unescape
from jenkinsfile.syntax.syntax_errors import offset, word_at

GRAMMAR = Path(__file__).with_name("expressions.lark")

Node = Tree[Token] | Token


class Scope(Protocol):
    """What an expression can see."""

    def variable(self, name: str) -> Value:
        """Give the value of a name, or raise EvaluationError."""

    def call(self, name: str, positional: list[Value], named: dict[str, Value]) -> Value:
        """Call a step (or the like) and give its value."""


@dataclass(frozen=True)
class Use:
    """A call in an expression, seen without evaluating: the names of its arguments, and those that are plain literals.

    Among the literals an unnamed argument stands under the empty name.
    """

    name: str
    position: Position
    method: bool
    named: tuple[str, ...] = ()
    literals: dict[str, str] = field(default_factory=dict)


def evaluate(expression: Expression, scope: Scope) -> Value:
    """Evaluate an expression: JenkinsfileError if it is not one, EvaluationError if it has no value."""
    return _Evaluator(scope).visit(read(expression))


def read(expression: Expression) -> Tree[Token]:
    """Parse an expression. JenkinsfileError tells what a local run does not understand, and where."""
    try:
        return _tree(expression.text)
    except UnexpectedInput as error:
        at = offset(error, expression.text)
        found = word_at(expression.text, at)
        what = f"«{found}»" if found else "its end"
        place = Position(expression.position.line + expression.text.count("\n", 0, at))
        shown = " ".join(expression.text.split())
        raise JenkinsfileError(f"the expression «{shown}» is not supported by ct run, at {what}", place) from None


def uses(expression: Expression) -> Iterator[Use]:
    """Give every call of an expression, in no particular order."""
    for tree in read(expression).iter_subtrees():
        if tree.data in {"command", "method", "safe_method"}:
            method = tree.data != "command"
            name = tree.children[1 if method else 0]
            if not isinstance(name, Token):
                continue
            line = expression.position.line + (name.line or 1) - 1
            arguments = next((one for one in tree.children[1:] if isinstance(one, Tree)), None)
            yield Use(str(name), Position(line), method, _named(arguments), _literals(arguments))


@functools.cache
def _grammar() -> Lark:
    return Lark(GRAMMAR.read_text(), parser="lalr", propagate_positions=True, maybe_placeholders=False)


@functools.lru_cache(maxsize=1024)
def _tree(source: str) -> Tree[Token]:
    return _grammar().parse(source)


def _named(arguments: Tree[Token] | None) -> tuple[str, ...]:
    found = arguments.children if arguments is not None else []
    return tuple(_key(one.children[0]) for one in found if isinstance(one, Tree) and one.data == "named")


def _literals(arguments: Tree[Token] | None) -> dict[str, str]:
    found = {}
    for child in arguments.children if arguments is not None else ():
        key, value = child.children if isinstance(child, Tree) and child.data == "named" else ("", child)
        if isinstance(value, Tree) and value.data in {"string", "gstring"} and not [*value.find_data("hole")]:
            found[_key(key)] = content("".join(map(str, value.children)))
    return found


def _key(token: Node | str) -> str:
    return str(token).rpartition(":")[0].strip()


class _Evaluator(Interpreter[Token, Value]):
    """A method per rule of the grammar."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope

    def value(self, node: Node) -> Value:
        return self.visit(node) if isinstance(node, Tree) else str(node)

    def pair(self, tree: Tree[Token]) -> tuple[Value, Value]:
        left, right = tree.children
        return self.value(left), self.value(right)

    def start(self, tree: Tree[Token]) -> Value:
        return self.value(tree.children[0])

    # ---- literals and names

    def number(self, tree: Tree[Token]) -> Value:
        digits = str(tree.children[0]).rstrip("lLdDfFgG")
        return float(digits) if "." in digits else int(digits)

    def true(self, _tree: Tree[Token]) -> Value:
        return True

    def false(self, _tree: Tree[Token]) -> Value:
        return False

    def null(self, _tree: Tree[Token]) -> Value:
        return None

    def string(self, tree: Tree[Token]) -> Value:
        return content(str(tree.children[0]))

    def gstring(self, tree: Tree[Token]) -> Value:
        inside = tree.children[1:-1]
        return "".join(text(self.visit(part)) if isinstance(part, Tree) else unescape(part) for part in inside)

    def hole(self, tree: Tree[Token]) -> Value:
        if not tree.children:
            return ""
        held = tree.children[0]
        if isinstance(held, Tree):
            return self.visit(held)
        name, *path = held[1:].split(".")
        return functools.reduce(member_of, path, self.scope.variable(name))

    hole_of_three = hole

    def name(self, tree: Tree[Token]) -> Value:
        return self.scope.variable(str(tree.children[0]))

    def empty_list(self, _tree: Tree[Token]) -> Value:
        return []

    def empty_map(self, _tree: Tree[Token]) -> Value:
        return {}

    def list_literal(self, tree: Tree[Token]) -> Value:
        return [self.value(child) for child in tree.children]

    def map_literal(self, tree: Tree[Token]) -> Value:
        return dict(self.visit(child) for child in tree.children if isinstance(child, Tree))

    def entry(self, tree: Tree[Token]) -> Value:
        key, value = tree.children
        return (self.visit(key) if isinstance(key, Tree) else _key(key)), self.value(value)

    # ---- calls and paths

    def arguments(self, tree: Tree[Token] | None) -> tuple[list[Value], dict[str, Value]]:
        positional, named = [], {}
        for child in tree.children if tree is not None else ():
            if isinstance(child, Tree) and child.data == "named":
                named[_key(child.children[0])] = self.value(child.children[1])
            else:
                positional.append(self.value(child))
        return positional, named

    def command(self, tree: Tree[Token]) -> Value:
        name, *rest = tree.children
        given = next((child for child in rest if isinstance(child, Tree)), None)
        return self.scope.call(str(name), *self.arguments(given))

    def member(self, tree: Tree[Token]) -> Value:
        target, name = tree.children
        return member_of(self.value(target), str(name))

    def safe_member(self, tree: Tree[Token]) -> Value:
        target, name = self.value(tree.children[0]), str(tree.children[1])
        return None if target is None else member_of(target, name)

    def method(self, tree: Tree[Token]) -> Value:
        return self._method(self.value(tree.children[0]), tree)

    def safe_method(self, tree: Tree[Token]) -> Value:
        target = self.value(tree.children[0])
        return None if target is None else self._method(target, tree)

    def _method(self, target: Value, tree: Tree[Token]) -> Value:
        name = str(tree.children[1])
        last = tree.children[-1]
        positional, named = self.arguments(last if isinstance(last, Tree) and len(tree.children) > 2 else None)
        if target is None:
            raise EvaluationError(f"cannot call «{name}()» on null")
        found = methods.of(target).get(name)
        if found is None or named:
            raise EvaluationError(f"{kind(target)} has no method «{name}» that ct run knows")
        try:
            return found(target, *positional)
        except (TypeError, ValueError, IndexError, re.error) as error:
            raise EvaluationError(f"«{name}()» of {kind(target)} failed: {error}") from None

    def index(self, tree: Tree[Token]) -> Value:
        target, key = self.pair(tree)
        if isinstance(target, Mapping):
            return target.get(key)
        if isinstance(target, (list, str)) and isinstance(key, int) and not isinstance(key, bool):
            return target[key] if -len(target) <= key < len(target) else None
        raise EvaluationError(f"{kind(target)} cannot be indexed by {kind(key)}")

    # ---- operators

    def choose(self, tree: Tree[Token]) -> Value:
        condition, yes, no = tree.children
        return self.value(yes) if truth(self.value(condition)) else self.value(no)

    def elvis(self, tree: Tree[Token]) -> Value:
        left = self.value(tree.children[0])
        return left if truth(left) else self.value(tree.children[1])

    def either(self, tree: Tree[Token]) -> Value:
        return truth(self.value(tree.children[0])) or truth(self.value(tree.children[1]))

    def both(self, tree: Tree[Token]) -> Value:
        return truth(self.value(tree.children[0])) and truth(self.value(tree.children[1]))

    def opposite(self, tree: Tree[Token]) -> Value:
        return not truth(self.value(tree.children[0]))

    def negative(self, tree: Tree[Token]) -> Value:
        return operators.minus(0, self.value(tree.children[0]))

    def __default__(self, tree: Tree[Token]) -> Value:
        """Apply an operator that needs no more than the values of its two operands."""
        return operators.BY_RULE[tree.data](*self.pair(tree))
