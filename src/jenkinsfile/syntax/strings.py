"""Groovy's string literals: their quotes and escape sequences."""

from __future__ import annotations

import re

QUOTES = ("'''", '"""', "'", '"', "$/", "/")
ESCAPE_SEQUENCE = re.compile(r"\\(u+[0-9a-fA-F]{4}|\n|.)", re.DOTALL)
CONTROL_CHARACTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}


def unquote(literal: str) -> str:
    """Return the string that a literal denotes, with its `${}` unchanged. Text without quotes is returned as it is."""
    for quote in QUOTES:
        end = quote[::-1]
        if literal.startswith(quote) and literal.endswith(end) and len(literal) >= 2 * len(quote):
            content = literal[len(quote) : -len(end)]
            return content.replace(r"\/", "/") if "/" in quote else unescape(content)
    return literal


def unescape(text: str) -> str:
    """Replace the escape sequences of a quoted string."""
    return ESCAPE_SEQUENCE.sub(_unescape_match, text)


def _unescape_match(match: re.Match[str]) -> str:
    character = match[1]
    if len(character) > 1:
        return chr(int(character.lstrip("u"), 16))
    return CONTROL_CHARACTERS.get(character, character)
