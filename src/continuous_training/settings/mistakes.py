"""Mistakes in training.yaml, as a person can correct them: the line, the key's path, and what is expected there."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, get_origin

import yaml

from continuous_training.settings.section import Section, keys, section_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

EXPECTED = {  # by pydantic's type of error
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "date_from_datetime_parsing": "must be a date such as 2013-04-01",
    "date_type": "must be a date such as 2013-04-01",
    "dict_type": "must have keys and values",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "list_type": "must be a list, as in [a, b]",
    "literal_error": "must be {expected}",
    "model_type": "must be a section with keys and values",
    "string_type": "must be text",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
    "tuple_type": "must be a list, as in [a, b]",
}
Path = tuple[str | int, ...]


def describe(error: ValidationError, text: str, settings: type[Section]) -> list[tuple[int, str]]:
    """Describe every mistake in a text, in the order of its lines.

    Args:
        error: what pydantic reports about the text.
        text: the YAML.
        settings: the class whose fields are the text's keys.

    Returns:
        For each mistake the number of its line, from 1, and its key's path with what is wrong.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    unknown: dict[Path, str] = {}  # a key that a typo probably stands for, by its path, and the typo
    messages: dict[tuple[int, str], None] = {}
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden")
    for detail in details:
        path, line = _locate(root, detail["loc"])
        if detail["type"] == "extra_forbidden":
            names = _keys(settings, path[:-1])
            message, match = _unknown_key(str(path[-1]), names, settings)
            if match:
                unknown[*path[:-1], match] = str(path[-1])
        elif detail["type"] == "missing":
            path = detail["loc"]
            if path in unknown:
                continue
            message = "this key is missing"
        else:
            message = _expectation(detail)
        where = ".".join(map(str, path))
        messages[line, f"{where}: {message}" if where else message] = None
    return sorted(messages)


def _unknown_key(name: str, names: list[str], settings: type[Section]) -> tuple[str, str | None]:
    """Describe a key that does not exist; also return the one of the same section that is probably meant."""
    if matches := difflib.get_close_matches(name, names, n=1):
        return f"unknown key; did you mean {matches[0]}?", matches[0]
    elsewhere = [path for path in _all_keys(settings) if path.rpartition(".")[2] == name]
    if elsewhere:
        return f"unknown key; did you mean {' or '.join(elsewhere)}?", None
    return f"unknown key; the keys here are {', '.join(names)}", None


def _expectation(detail: ErrorDetails) -> str:
    template = EXPECTED.get(detail["type"])
    if template is None:
        return detail["msg"].removeprefix("Value error, ")
    message = template.format(**detail.get("ctx", {}))
    value = detail["input"]
    return message if isinstance(value, list | tuple | dict) else f"{message}, not {_in_yaml(value)}"


def _in_yaml(value: object) -> str:
    if value is None:
        return "empty"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _locate(root: yaml.Node | None, loc: Path) -> tuple[Path, int]:
    """Return the part of a location that the text has, and its line; pydantic also names a union's members in it."""
    node, line, path = root, 1, []
    for part in loc:
        key, child = _child(node, part)
        if child is None:
            break
        node, line = child, (key or child).start_mark.line + 1
        path.append(part)
    return tuple(path), line


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node | None, yaml.Node | None]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return None, node.value[part]
    return None, None


def _keys(settings: type[Section], path: Path) -> list[str]:
    """Return the keys of the section at a path; the names in a mapping of sections count as a part of the path."""
    section: type[Section] | None = settings
    for part in path:
        if section and part in (fields := keys(section)):
            section = section_of(fields[str(part)].annotation)
    return list(keys(section)) if section else []


def _all_keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Yield the paths of all keys, but those of sections in mappings."""
    for name, field in keys(section).items():
        yield f"{prefix}{name}"
        if (below := section_of(field.annotation)) and get_origin(field.annotation) is not dict:
            yield from _all_keys(below, f"{prefix}{name}.")
