"""The methods of Groovy's strings, lists, maps and of `currentBuild` that an expression may call."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

Method = Callable[..., Any]


@runtime_checkable
class CurrentBuildMethods(Protocol):
    """The methods of `currentBuild`."""

    @property
    def causes(self) -> list[dict[str, str]]:
        """The causes of the build."""

    def set_description(self, description: str) -> None:
        """Set the description of the build."""


STRING_METHODS: dict[str, Method] = {
    "capitalize": lambda text: text[:1].upper() + text[1:],
    "concat": lambda text, suffix: text + suffix,
    "contains": lambda text, part: part in text,
    "endsWith": lambda text, end: text.endswith(end),
    "equals": lambda text, other: text == other,
    "equalsIgnoreCase": lambda text, other: isinstance(other, str) and text.lower() == other.lower(),
    "indexOf": lambda text, part: text.find(part),
    "isEmpty": lambda text: not text,
    "isInteger": lambda text: re.fullmatch(r"\s*[+-]?\d+\s*", text) is not None,
    "isNumber": lambda text: re.fullmatch(r"\s*[+-]?\d+(\.\d+)?\s*", text) is not None,
    "lastIndexOf": lambda text, part: text.rfind(part),
    "length": len,
    "matches": lambda text, pattern: re.fullmatch(pattern, text) is not None,
    "readLines": str.splitlines,
    "replace": lambda text, old, new: text.replace(old, new),
    "replaceAll": lambda text, pattern, new: re.sub(pattern, _replacement(new), text),
    "replaceFirst": lambda text, pattern, new: re.sub(pattern, _replacement(new), text, count=1),
    "size": len,
    "split": lambda text, pattern=r"\s+": _strip_empty_parts(re.split(pattern, text)),
    "startsWith": lambda text, start: text.startswith(start),
    "substring": lambda text, start, end=None: text[start:end],
    "take": lambda text, count: text[:count],
    "toBoolean": lambda text: text.strip().lower() in {"true", "y", "1"},
    "toFloat": float,
    "toInteger": int,
    "toLowerCase": str.lower,
    "toString": str,
    "toUpperCase": str.upper,
    "tokenize": lambda text, separators=" \t\n\r\f": [
        token for token in re.split(f"[{re.escape(separators)}]", text) if token
    ],
    "trim": str.strip,
}
LIST_METHODS: dict[str, Method] = {
    "contains": lambda items, item: item in items,
    "first": lambda items: items[0],
    "get": lambda items, index: items[index],
    "indexOf": lambda items, item: items.index(item) if item in items else -1,
    "isEmpty": lambda items: not items,
    "join": lambda items, separator="": separator.join(map(str, items)),
    "last": lambda items: items[-1],
    "reverse": lambda items: items[::-1],
    "size": len,
    "sort": sorted,
    "unique": lambda items: list(dict.fromkeys(items)),
}
MAP_METHODS: dict[str, Method] = {
    "containsKey": lambda entries, key: key in entries,
    "get": lambda entries, key, default=None: entries.get(key, default),
    "getOrDefault": lambda entries, key, default: entries.get(key, default),
    "isEmpty": lambda entries: not entries,
    "size": len,
}
OTHER_METHODS: dict[str, Method] = {
    "equals": lambda value, other: type(value) is type(other) and value == other,
    "toInteger": int,
    "toString": lambda value: str(value).lower() if isinstance(value, bool) else str(value),
}
BUILD_METHODS: dict[str, Method] = {
    "getBuildCauses": lambda build, name=None: [cause for cause in build.causes if name in {None, cause["_class"]}],
    "setDescription": lambda build, description: build.set_description(description),
}
METHOD_NAMES = frozenset[str]().union(BUILD_METHODS, STRING_METHODS, LIST_METHODS, MAP_METHODS, OTHER_METHODS)


def methods_of(value: object) -> dict[str, Method]:
    """Return the methods of a value by name."""
    if isinstance(value, str):
        return STRING_METHODS
    if isinstance(value, list):
        return LIST_METHODS
    if isinstance(value, CurrentBuildMethods):
        return BUILD_METHODS
    return MAP_METHODS if isinstance(value, Mapping) else OTHER_METHODS


def _replacement(text: str) -> str:
    return re.sub(r"\$(\d)", r"\\\1", text)


def _strip_empty_parts(parts: list[str]) -> list[str]:
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return parts
