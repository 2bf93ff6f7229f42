"""The query parameter `tree` of Jenkins' API, which selects the fields of a response."""

from __future__ import annotations

import re
from typing import Any

TOKENS = re.compile(r"\w+|[\[\],]|\{[^}]*\}")


def select_fields(document: Any, tree: str) -> Any:
    """Return the fields that a tree such as `number,actions[causes[shortDescription]]{0,5}` names; all without one."""
    return _select(document, _parse(TOKENS.findall(tree))) if tree else document


def _parse(tokens: list[str]) -> dict[str, Any]:
    """Consume the names up to the closing bracket, each with the names inside it."""
    names: dict[str, Any] = {}
    name = ""
    while tokens:
        token = tokens.pop(0)
        if token == "]":
            break
        if token == "[":
            names[name] = _parse(tokens)
        elif token.isidentifier():
            name = token
            names[name] = {}
    return names


def _select(document: Any, names: dict[str, Any]) -> Any:
    if isinstance(document, list):
        return [_select(element, names) for element in document]
    if isinstance(document, dict) and names:
        return {name: _select(document[name], inner) for name, inner in names.items() if name in document}
    return document
