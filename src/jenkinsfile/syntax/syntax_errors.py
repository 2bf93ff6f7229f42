"""What stands where nothing like it may stand, in a person's words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lark.exceptions import UnexpectedInput, UnexpectedToken
from lark.lexer import PatternStr

from jenkinsfile.syntax.model import Position

if TYPE_CHECKING:
    from lark import Lark

END = "$END"
END_TOO_EARLY = "the file ends, and its braces or quotes are not closed"


def offset(error: UnexpectedInput, text: str) -> int:
    """Give the index of the first character that does not fit; the text's length if it ends too early."""
    if isinstance(error, UnexpectedToken) and error.token.type == END:
        return len(text)
    at = error.pos_in_stream or 0
    return at + len(text[at:]) - len(text[at:].lstrip())


def word_at(text: str, at: int) -> str:
    """Give the word, or the single character, at an index; nothing at the text's end."""
    found = re.compile(r"\w+|.", re.DOTALL).match(text, at)
    return found[0] if found else ""


def complaint(error: UnexpectedInput, text: str, grammar: Lark) -> tuple[str, Position]:
    """Say what is wrong with a Jenkinsfile, and where."""
    expected: set[str] = set(getattr(error, "accepts", None) or getattr(error, "expected", None) or ())
    at = offset(error, text)
    if at >= len(text.rstrip()):
        at = len(text.rstrip())
        missing = "the file has no pipeline {}" if "PIPELINE" in expected else END_TOO_EARLY
        return missing, _position(text, at)
    found = word_at(text, at)
    literals = {one.name: one.pattern.value for one in grammar.terminals if isinstance(one.pattern, PatternStr)}
    sections = sorted(literals[name] for name in expected & literals.keys() if literals[name].isalpha())
    if sections:
        return f"unknown section «{found}»; expected here: {', '.join(sections)}", _position(text, at)
    if "_SEP" in expected and found[0].isalpha():
        return f"unexpected «{found}»: it must stand on a line of its own", _position(text, at)
    return f"unexpected «{found}»", _position(text, at)


def _position(text: str, at: int) -> Position:
    return Position(text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))
