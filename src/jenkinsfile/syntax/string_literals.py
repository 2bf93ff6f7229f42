"""Groovy's string literals: what stands between the quotes, and what it means."""

from __future__ import annotations

import re

QUOTES = ("'''", '"""', "'", '"', "$/", "/")
ESCAPE = re.compile(r"\\(u+[0-9a-fA-F]{4}|\n|.)", re.DOTALL)
NAMED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}


def content(literal: str) -> str:
    """Give the string that a literal stands for; its `${}` stay as they are. Other text comes back as it is."""
    for quote in QUOTES:
        end = quote[::-1]
        if literal.startswith(quote) and literal.endswith(end) and len(literal) >= 2 * len(quote):
            inner = literal[len(quote) : -len(end)]
            return inner.replace(r"\/", "/") if "/" in quote else unescape(inner)
    return literal


def unescape(text: str) -> str:
    """Resolve the backslashes of a quoted string."""
    return ESCAPE.sub(_resolve, text)


def _resolve(found: re.Match[str]) -> str:
    escaped = found[1]
    if len(escaped) > 1:
        return chr(int(escaped.lstrip("u"), 16))
    return NAMED.get(escaped, escaped)
