"""Evaluates Groovy expressions, without `eval`."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from lark import Token, Tree
from lark.visitors import Interpreter

from jenkinsfile.expressions.methods import methods_of
from jenkinsfile.expressions.operators import BINARY_OPERATORS, subtract
from jenkinsfile.expressions.parser import Node, key_name, parse_expression
from jenkinsfile.expressions.values import EvaluationError, Value, get_property, is_true, to_string, type_name
from jenkinsfile.syntax.strings import unescape, unquote

if TYPE_CHECKING:
    from jenkinsfile.syntax.model import Expression


class Scope(Protocol):
    """The names that an expression can use."""

    def variable(self, name: str) -> Value:
        """Return the value of a name. Raises EvaluationError if there is none."""

    def call(self, name: str, positional: list[Value], named_arguments: dict[str, Value]) -> Value:
        """Call a step or a symbol and return its value."""


def evaluate(expression: Expression, scope: Scope) -> Value:
    """Evaluate an expression. Raises JenkinsfileError if it cannot be parsed, EvaluationError if it has no value."""
    return _Evaluator(scope).visit(parse_expression(expression))


class _Evaluator(Interpreter[Token, Value]):
    """Each method is named after a rule of the grammar."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope

    def value(self, node: Node) -> Value:
        return self.visit(node) if isinstance(node, Tree) else str(node)

    def operands(self, tree: Tree[Token]) -> tuple[Value, Value]:
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
        return unquote(str(tree.children[0]))

    def gstring(self, tree: Tree[Token]) -> Value:
        parts = tree.children[1:-1]
        return "".join(to_string(self.visit(part)) if isinstance(part, Tree) else unescape(part) for part in parts)

    def interpolation(self, tree: Tree[Token]) -> Value:
        if not tree.children:
            return ""
        content = tree.children[0]
        if isinstance(content, Tree):
            return self.visit(content)
        name, *path = content[1:].split(".")
        return functools.reduce(get_property, path, self.scope.variable(name))

    triple_interpolation = interpolation

    def variable(self, tree: Tree[Token]) -> Value:
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
        return (self.visit(key) if isinstance(key, Tree) else key_name(key)), self.value(value)

    # ---- calls and paths

    def arguments(self, tree: Tree[Token] | None) -> tuple[list[Value], dict[str, Value]]:
        positional, named_arguments = [], {}
        for child in tree.children if tree is not None else ():
            if isinstance(child, Tree) and child.data == "named_argument":
                named_arguments[key_name(child.children[0])] = self.value(child.children[1])
            else:
                positional.append(self.value(child))
        return positional, named_arguments

    def command(self, tree: Tree[Token]) -> Value:
        name, *rest = tree.children
        arguments = next((child for child in rest if isinstance(child, Tree)), None)
        return self.scope.call(str(name), *self.arguments(arguments))

    def member(self, tree: Tree[Token]) -> Value:
        target, name = tree.children
        return get_property(self.value(target), str(name))

    def safe_member(self, tree: Tree[Token]) -> Value:
        target, name = self.value(tree.children[0]), str(tree.children[1])
        return None if target is None else get_property(target, name)

    def method(self, tree: Tree[Token]) -> Value:
        return self._call_method(self.value(tree.children[0]), tree)

    def safe_method(self, tree: Tree[Token]) -> Value:
        target = self.value(tree.children[0])
        return None if target is None else self._call_method(target, tree)

    def _call_method(self, target: Value, tree: Tree[Token]) -> Value:
        name = str(tree.children[1])
        last = tree.children[-1]
        positional, named_arguments = self.arguments(
            last if isinstance(last, Tree) and len(tree.children) > 2 else None
        )
        if target is None:
            raise EvaluationError(f"cannot call '{name}()' on null")
        method = methods_of(target).get(name)
        if method is None or named_arguments:
            raise EvaluationError(f"{type_name(target)} has no method '{name}' that a local run supports")
        try:
            return method(target, *positional)
        except (TypeError, ValueError, IndexError, re.error) as error:
            raise EvaluationError(f"'{name}()' of {type_name(target)} failed: {error}") from None

    def index(self, tree: Tree[Token]) -> Value:
        target, key = self.operands(tree)
        if isinstance(target, Mapping):
            return target.get(key)
        if isinstance(target, (list, str)) and isinstance(key, int) and not isinstance(key, bool):
            return target[key] if -len(target) <= key < len(target) else None
        raise EvaluationError(f"{type_name(target)} cannot be indexed by {type_name(key)}")

    # ---- operators

    def conditional(self, tree: Tree[Token]) -> Value:
        condition, consequent, alternative = tree.children
        return self.value(consequent) if is_true(self.value(condition)) else self.value(alternative)

    def elvis(self, tree: Tree[Token]) -> Value:
        left = self.value(tree.children[0])
        return left if is_true(left) else self.value(tree.children[1])

    def logical_or(self, tree: Tree[Token]) -> Value:
        return is_true(self.value(tree.children[0])) or is_true(self.value(tree.children[1]))

    def logical_and(self, tree: Tree[Token]) -> Value:
        return is_true(self.value(tree.children[0])) and is_true(self.value(tree.children[1]))

    def logical_not(self, tree: Tree[Token]) -> Value:
        return not is_true(self.value(tree.children[0]))

    def negate(self, tree: Tree[Token]) -> Value:
        return subtract(0, self.value(tree.children[0]))

    def __default__(self, tree: Tree[Token]) -> Value:
        """Apply a binary operator to the values of its operands."""
        return BINARY_OPERATORS[tree.data](*self.operands(tree))
