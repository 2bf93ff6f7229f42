"""The reference of training.yaml and its JSON schema, both made from the settings' classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_origin

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic.json_schema import GenerateJsonSchema

from continuous_training.settings.section import Section, keys, section_of
from continuous_training.settings.training_yaml import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

FOLDER = Path(__file__).parent
MARKDOWN, SCHEMA, EXAMPLES = FOLDER / "README.md", FOLDER / "training.schema.json", FOLDER / "examples"
BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
TOP = "top level"
TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}


class Key(NamedTuple):
    """One key of a section, as the reference shows it; all but the name is Markdown."""

    name: str
    type: str
    default: str
    description: str
    example: str


class Chapter(NamedTuple):
    """One section of the reference: the paths at which it may stand in the file, and its keys."""

    paths: tuple[str, ...]
    description: str
    keys: list[Key]


class _Schema(GenerateJsonSchema):
    """JSON schema without titles, which only repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - pydantic's signature
        return False


def schema() -> dict[str, Any]:
    """Return the JSON schema of training.yaml."""
    contents = Settings.model_json_schema(schema_generator=_Schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_with_joined_lines(contents)}


def markdown() -> str:
    """Return the reference of training.yaml, with its complete examples."""
    loader = FileSystemLoader(FOLDER)
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701 - Markdown
    examples = {path.stem: path.read_text(encoding="utf-8").rstrip() for path in sorted(EXAMPLES.glob("*.yaml"))}
    return environment.get_template("README.md.j2").render(chapters=chapters(), examples=examples) + "\n"


def files() -> dict[Path, str]:
    """Return the files that the repository keeps, with the content that they should have."""
    return {MARKDOWN: markdown(), SCHEMA: json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"}


def chapters() -> list[Chapter]:
    """Return all sections in the order of the file, each once, with every path at which it may stand."""
    paths: dict[type[Section], list[str]] = {}
    for path, section in _sections(Settings, ""):
        paths.setdefault(section, []).append(path)
    definitions = {**(contents := schema())["$defs"], Settings.__name__: contents}
    return [
        Chapter(
            paths=tuple(path or TOP for path in where),
            description=_join_lines(section.__doc__ or ""),
            keys=[
                _key(name, field, definitions[section.__name__]["properties"][name], definitions)
                for name, field in keys(section).items()
                if not _is_section(field)
            ],
        )
        for section, where in paths.items()
    ]


def _sections(section: type[Section], path: str) -> Iterator[tuple[str, type[Section]]]:
    yield path, section
    for name, field in keys(section).items():
        if below := section_of(field.annotation):
            prefix = f"{path}.{name}" if path else name
            yield from _sections(below, f"{prefix}.NAME" if get_origin(field.annotation) is dict else prefix)


def _is_section(field: FieldInfo) -> bool:
    """Whether the reference has a chapter for the key in place of a row."""
    return section_of(field.annotation) is not None and not field.description


def _key(name: str, field: FieldInfo, schema: dict[str, Any], definitions: dict[str, Any]) -> Key:
    if field.is_required():
        default = "required"
    else:
        value = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(value, Section):
            value = value.model_dump()
        default = "none" if value is None or value in ({}, ()) else f"`{_flow(value)}`"
    return Key(
        name=name,
        type=_type(schema, definitions),
        default=default,
        description=_join_lines(field.description or ""),
        example=" or ".join(f"`{name}: {_flow(example)}`" for example in field.examples or ()),
    )


def _type(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Describe the values that a schema allows."""
    if reference := schema.get("$ref"):
        return "section" if definitions[reference.rpartition("/")[2]] else ""
    if options := schema.get("anyOf") or schema.get("oneOf"):
        names = dict.fromkeys(_type(option, definitions) for option in options if option.get("type") != "null")
        return " or ".join(names)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])} numbers"
    if schema.get("type") == "array":
        items = _type(schema.get("items", {}), definitions)
        return f"list of {items}" if items else "list"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return (
            f"mapping of names to {_type(values, definitions) or 'values'}" if isinstance(values, dict) else "mapping"
        )
    if schema.get("format") == "date":
        return "date"
    bounds = ", ".join(f"{sign} {schema[bound]:g}" for bound, sign in BOUNDS.items() if bound in schema)
    return f"{TYPES.get(schema.get('type', ''), '')} {bounds}".strip()


def _flow(value: object) -> str:
    """Write a value as YAML in one line."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000, sort_keys=False).removesuffix("...\n").strip()


def _with_joined_lines(part: Any) -> Any:  # noqa: ANN401 - any part of a schema
    if isinstance(part, dict):
        return {
            name: _join_lines(value) if name == "description" and isinstance(value, str) else _with_joined_lines(value)
            for name, value in part.items()
        }
    return [_with_joined_lines(item) for item in part] if isinstance(part, list) else part


def _join_lines(text: str) -> str:
    """Put each paragraph on one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
