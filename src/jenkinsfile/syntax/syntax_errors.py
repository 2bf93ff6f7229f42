"""Turns lark's errors into messages for people: what is wrong, and at which line and column."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lark.exceptions import UnexpectedInput, UnexpectedToken
from lark.lexer import PatternStr

from jenkinsfile.syntax.model import Position

if TYPE_CHECKING:
    from lark import Lark

END_OF_INPUT = "$END"
UNEXPECTED_END = "the file ends before all braces and quotes are closed"


def error_offset(error: UnexpectedInput, text: str) -> int:
    """Return the index of the first character that does not fit; the text's length if the text ends too early."""
    if isinstance(error, UnexpectedToken) and error.token.type == END_OF_INPUT:
        return len(text)
    offset = error.pos_in_stream or 0
    return offset + len(text[offset:]) - len(text[offset:].lstrip())


def token_at(text: str, offset: int) -> str:
    """Return the word, or the single character, at an index; the empty string at the end of the text."""
    match = re.compile(r"\w+|.", re.DOTALL).match(text, offset)
    return match[0] if match else ""


def describe_error(error: UnexpectedInput, text: str, grammar: Lark) -> tuple[str, Position]:
    """Return the message and the position of a syntax error in a Jenkinsfile."""
    expected: set[str] = set(getattr(error, "accepts", None) or getattr(error, "expected", None) or ())
    offset = error_offset(error, text)
    if offset >= len(text.rstrip()):
        message = "the file has no pipeline {}" if "PIPELINE" in expected else UNEXPECTED_END
        return message, _position(text, len(text.rstrip()))
    token, position = token_at(text, offset), _position(text, offset)
    literals = {rule.name: rule.pattern.value for rule in grammar.terminals if isinstance(rule.pattern, PatternStr)}
    sections = sorted(literals[name] for name in expected & literals.keys() if literals[name].isalpha())
    if sections:
        return f"unknown section '{token}'; expected: {', '.join(sections)}", position
    if "_SEP" in expected and token[0].isalpha():
        return f"unexpected '{token}': start a new line, or separate with ';'", position
    return f"unexpected '{token}'", position


def _position(text: str, offset: int) -> Position:
    return Position(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))
