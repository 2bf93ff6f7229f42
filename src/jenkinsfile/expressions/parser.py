"""Parses Groovy expressions, and finds the calls in them without evaluating anything."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lark import Token, Tree
from lark.exceptions import UnexpectedInput

from jenkinsfile.syntax.grammar import load_grammar
from jenkinsfile.syntax.model import Expression, JenkinsfileError, Position
from jenkinsfile.syntax.strings import unquote
from jenkinsfile.syntax.syntax_errors import error_offset, token_at

if TYPE_CHECKING:
    from collections.abc import Iterator

GRAMMAR = Path(__file__).with_name("expressions.lark")
CALLS = frozenset({"command", "method", "safe_method"})

Node = Tree[Token] | Token


@dataclass(frozen=True)
class CallSite:
    """A call in an expression: its name, the names of its named arguments, and the arguments that are string literals.

    `literals` maps the argument's name to its value; an unnamed argument has the empty name.
    """

    name: str
    position: Position
    is_method: bool
    argument_names: tuple[str, ...] = ()
    literals: dict[str, str] = field(default_factory=dict)


def parse_expression(expression: Expression) -> Tree[Token]:
    """Parse an expression. Raises JenkinsfileError with its line if a local run does not support it."""
    try:
        return _parse(expression.text)
    except UnexpectedInput as error:
        offset = error_offset(error, expression.text)
        token = token_at(expression.text, offset)
        location = f"'{token}'" if token else "its end"
        position = Position(expression.position.line + expression.text.count("\n", 0, offset))
        source = " ".join(expression.text.split())
        message = f"the expression '{source}' is not supported by a local run, at {location}"
        raise JenkinsfileError(message, position) from None


def find_calls(expression: Expression) -> Iterator[CallSite]:
    """Yield every call in an expression, in no particular order."""
    for tree in parse_expression(expression).iter_subtrees():
        if tree.data in CALLS:
            is_method = tree.data != "command"
            name = tree.children[1 if is_method else 0]
            if not isinstance(name, Token):
                continue
            line = expression.position.line + (name.line or 1) - 1
            arguments = next((child for child in tree.children[1:] if isinstance(child, Tree)), None)
            yield CallSite(str(name), Position(line), is_method, _argument_names(arguments), _literals(arguments))


def key_name(token: Node | str) -> str:
    """Return the name in a `name:` token; the empty string for a token without a colon."""
    return str(token).rpartition(":")[0].strip()


@functools.lru_cache(maxsize=1024)
def _parse(source: str) -> Tree[Token]:
    return load_grammar(GRAMMAR).parse(source)


def _argument_names(arguments: Tree[Token] | None) -> tuple[str, ...]:
    children = arguments.children if arguments is not None else []
    return tuple(
        key_name(child.children[0]) for child in children if isinstance(child, Tree) and child.data == "named_argument"
    )


def _literals(arguments: Tree[Token] | None) -> dict[str, str]:
    literals = {}
    for child in arguments.children if arguments is not None else ():
        is_named = isinstance(child, Tree) and child.data == "named_argument"
        key, value = child.children if is_named and isinstance(child, Tree) else ("", child)
        if isinstance(value, Tree) and value.data in {"string", "gstring"} and not _has_interpolation(value):
            literals[key_name(key)] = unquote("".join(map(str, value.children)))
    return literals


def _has_interpolation(gstring: Tree[Token]) -> bool:
    return any(node.data in {"interpolation", "triple_interpolation"} for node in gstring.iter_subtrees())
