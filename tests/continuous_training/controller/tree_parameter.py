"""The `tree` of a question to Jenkins: of an answer, only what it names."""

from __future__ import annotations

import re
from typing import Any

TOKENS = re.compile(r"\w+|[\[\],]|\{[^}]*\}")


def pruned(whole: Any, tree: str) -> Any:
    """Return what a tree such as `number,actions[causes[shortDescription]]{0,5}` names; all without one."""
    return _kept(whole, _read(TOKENS.findall(tree))) if tree else whole


def _read(tokens: list[str]) -> dict[str, Any]:
    """Take the names up to the closing bracket, with what is asked for inside each."""
    names: dict[str, Any] = {}
    name = ""
    while tokens:
        token = tokens.pop(0)
        if token == "]":
            break
        if token == "[":
            names[name] = _read(tokens)
        elif token.isidentifier():
            name = token
            names[name] = {}
    return names


def _kept(whole: Any, names: dict[str, Any]) -> Any:
    if isinstance(whole, list):
        return [_kept(one, names) for one in whole]
    if isinstance(whole, dict) and names:
        return {name: _kept(whole[name], inside) for name, inside in names.items() if name in whole}
    return whole
