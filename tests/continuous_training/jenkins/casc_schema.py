"""Validates casc.yaml against the schema of a real controller.

`python tests/continuous_training/jenkins/casc_schema.py` reduces ../shared/jenkins/casc-schema.json to the roots that
casc.yaml uses, without their descriptions.

The schema does not say where the type of a value is defined: it is a name of the same root, such as `permanent` for an
item of `jenkins.nodes`. `ADDITIONAL_DEFINITIONS` has definitions that it lacks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
COMPLETE = ROOT.parent / "shared/jenkins/casc-schema.json"
REDUCED = ROOT / "tests/continuous_training/jenkins/reference/casc-schema.json"

ROOTS = ("appearance", "jenkins", "security", "unclassified")  # its definitions of credentials and jobs are wrong

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
VALUE_WITH_NAME: Schema = {"type": "object"}  # a name of the same root, alone or with its attributes


def mapping(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def sequence(items: Schema) -> Schema:
    return {"type": "array", "items": [items]}


# Definitions that the schema lacks although the controller accepts them, from the plugins' documentation of casc.yaml.
ADDITIONAL_DEFINITIONS: Mapping[str, Mapping[str, Schema]] = {
    "jenkins": {
        "nodes": sequence(VALUE_WITH_NAME),
        "globalNodeProperties": sequence(VALUE_WITH_NAME),
        "envVars": mapping(env=sequence(mapping(key=STRING, value=STRING))),
        "globalMatrix": mapping(entries=sequence(mapping(user=mapping(name=STRING, permissions=sequence(STRING))))),
    },
    "unclassified": {
        "buildDiscarders": mapping(configuredBuildDiscarders=sequence(VALUE_WITH_NAME)),
        "gitHubConfiguration": mapping(
            apiRateLimitChecker={"type": "string", "enum": ["NoThrottle", "ThrottleForNormalize", "ThrottleOnOver"]}
        ),
        "gitHubPluginConfig": mapping(hookSecretConfigs=sequence(mapping(credentialsId=STRING))),
        "prometheusConfiguration": mapping(
            useAuthenticatedEndpoint={"type": "boolean"}
        ),  # the plugin was not installed there
    },
}
TYPES = {"string": str, "integer": int, "boolean": bool, "array": list}


def read(path: Path) -> dict[str, dict[str, Schema]]:
    """Return the definitions of each root."""
    roots = json.loads(path.read_text())["properties"]
    return {root: merge(roots[root], mapping(**ADDITIONAL_DEFINITIONS.get(root, {})))["properties"] for root in ROOTS}


def merge(schema: Schema, addition: Schema) -> Schema:
    if "properties" not in addition:
        return addition
    properties = schema.get("properties", {})
    properties_of_both = {
        name: merge(properties.get(name, {}), value) for name, value in addition["properties"].items()
    }
    return schema | addition | {"properties": properties | properties_of_both}


def find_errors(configuration: Mapping[str, Any], known: Mapping[str, Mapping[str, Schema]]) -> Iterator[str]:
    """Yield the errors that the controller would report; unknown roots are not checked."""
    for root in configuration.keys() & known.keys():
        yield from mapping_errors(configuration[root], known[root], root, known[root])


def mapping_errors(
    values: Mapping[str, Any], properties: Mapping[str, Schema], place: str, names: Mapping[str, Schema]
) -> Iterator[str]:
    for key, value in values.items():
        if key not in properties:
            yield f"{place}: «{key}» is unknown"
        else:
            yield from value_errors(value, properties[key], f"{place}.{key}", names)


def value_errors(value: Any, schema: Schema, place: str, names: Mapping[str, Schema]) -> Iterator[str]:
    kind = schema.get("type", "object")
    if kind == "object":
        if schema.get("properties"):
            yield from mapping_errors(value, schema["properties"], place, names)
        else:
            yield from value_with_name_errors(value, choices(schema) or names, place, names)
    elif type(value) is not TYPES[kind] and not is_variable(value):
        yield f"{place}: «{value}» is no {kind}"
    elif kind == "array":
        for index, item in enumerate(value):
            yield from value_errors(item, schema["items"][0], f"{place}[{index}]", names)
    elif value not in schema.get("enum", [value]):
        yield f"{place}: «{value}» is none of {', '.join(schema['enum'])}"


def value_with_name_errors(
    value: Any, among: Mapping[str, Schema], place: str, names: Mapping[str, Schema]
) -> Iterator[str]:
    """Check a value that is a name, such as `inbound`, or a name with attributes."""
    attributes = value if isinstance(value, dict) else {value: {}}
    if len(attributes) != 1 or not attributes.keys() <= among.keys():
        yield f"{place}: «{', '.join(map(str, attributes))}» is unknown"
        return
    [(name, inner)] = attributes.items()
    yield from mapping_errors(inner, names.get(name, {}).get("properties", {}), f"{place}.{name}", names)


def choices(schema: Schema) -> dict[str, Schema]:
    return {name: value for choice in schema.get("oneOf", ()) for name, value in choice["properties"].items()}


def is_variable(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("${")


def without_descriptions(schema: Any) -> Any:
    if isinstance(schema, list):
        return [without_descriptions(item) for item in schema]
    if isinstance(schema, dict):
        return {
            key: without_descriptions(value)
            for key, value in schema.items()
            if key != "description" or isinstance(value, dict)
        }
    return schema


def reduce_data(whole: Schema) -> str:
    """Return the roots that casc.yaml uses, with one definition per line."""
    roots = []
    for root in ROOTS:
        definitions = whole["properties"][root]["properties"].items()
        lines = ",\n".join(
            f"{json.dumps(name)}: {json.dumps(without_descriptions(definition))}" for name, definition in definitions
        )
        roots.append(f'"{root}": {{"properties": {{\n{lines}\n}}}}')
    return '{"properties": {\n' + ",\n".join(roots) + "\n}}\n"


if __name__ == "__main__":
    REDUCED.write_text(reduce_data(json.loads(COMPLETE.read_text())))
