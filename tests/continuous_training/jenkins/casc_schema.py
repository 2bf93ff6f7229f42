"""What a real controller accepts in casc.yaml, from the schema that it gives.

`python tests/jenkins/casc_schema.py` cuts ../shared/jenkins/casc-schema.json down to the roots that casc.yaml uses,
without their descriptions.

The schema does not say where what can stand there is defined: it is a name of the same root, such as `permanent` for an
item of `jenkins.nodes`. And it has holes, which `ADDED` fills.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
WHOLE = ROOT.parent / "shared/jenkins/casc-schema.json"
CUT = ROOT / "tests/continuous_training/jenkins/reference/casc-schema.json"

ROOTS = ("appearance", "jenkins", "security", "unclassified")  # it is wrong about two more: credentials and jobs

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
SOMETHING_NAMED: Schema = {"type": "object"}  # a name of the same root, alone or with its attributes


def mapping(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def sequence(items: Schema) -> Schema:
    return {"type": "array", "items": [items]}


# What that controller accepts and its schema leaves out, from the plugins' own documentation of casc.yaml.
ADDED: Mapping[str, Mapping[str, Schema]] = {
    "jenkins": {
        "nodes": sequence(SOMETHING_NAMED),
        "globalNodeProperties": sequence(SOMETHING_NAMED),
        "envVars": mapping(env=sequence(mapping(key=STRING, value=STRING))),
        "globalMatrix": mapping(entries=sequence(mapping(user=mapping(name=STRING, permissions=sequence(STRING))))),
    },
    "unclassified": {
        "buildDiscarders": mapping(configuredBuildDiscarders=sequence(SOMETHING_NAMED)),
        "gitHubConfiguration": mapping(
            apiRateLimitChecker={"type": "string", "enum": ["NoThrottle", "ThrottleForNormalize", "ThrottleOnOver"]}
        ),
        "gitHubPluginConfig": mapping(hookSecretConfigs=sequence(mapping(credentialsId=STRING))),
        "prometheusConfiguration": mapping(useAuthenticatedEndpoint={"type": "boolean"}),  # it was not installed
    },
}
TYPES = {"string": str, "integer": int, "boolean": bool, "array": list}


def read(path: Path) -> dict[str, dict[str, Schema]]:
    """Give what each root defines."""
    roots = json.loads(path.read_text())["properties"]
    return {root: filled(roots[root], mapping(**ADDED.get(root, {})))["properties"] for root in ROOTS}


def filled(schema: Schema, added: Schema) -> Schema:
    if "properties" not in added:
        return added
    there = schema.get("properties", {})
    inner = {name: filled(there.get(name, {}), each) for name, each in added["properties"].items()}
    return schema | added | {"properties": there | inner}


def refused(configuration: Mapping[str, Any], known: Mapping[str, Mapping[str, Schema]]) -> Iterator[str]:
    """Say what of a configuration the controller would refuse; roots that are not known are left alone."""
    for root in configuration.keys() & known.keys():
        yield from of_mapping(configuration[root], known[root], root, known[root])


def of_mapping(
    given: Mapping[str, Any], properties: Mapping[str, Schema], place: str, names: Mapping[str, Schema]
) -> Iterator[str]:
    for key, value in given.items():
        if key not in properties:
            yield f"{place}: «{key}» is unknown"
        else:
            yield from of_value(value, properties[key], f"{place}.{key}", names)


def of_value(given: Any, schema: Schema, place: str, names: Mapping[str, Schema]) -> Iterator[str]:
    kind = schema.get("type", "object")
    if kind == "object":
        if schema.get("properties"):
            yield from of_mapping(given, schema["properties"], place, names)
        else:
            yield from of_named(given, choices(schema) or names, place, names)
    elif type(given) is not TYPES[kind] and not comes_from_outside(given):
        yield f"{place}: «{given}» is no {kind}"
    elif kind == "array":
        for at, item in enumerate(given):
            yield from of_value(item, schema["items"][0], f"{place}[{at}]", names)
    elif given not in schema.get("enum", [given]):
        yield f"{place}: «{given}» is none of {', '.join(schema['enum'])}"


def of_named(given: Any, among: Mapping[str, Schema], place: str, names: Mapping[str, Schema]) -> Iterator[str]:
    """Check what is given by its name: as `inbound`, or as `inbound:` with attributes."""
    attributes = given if isinstance(given, dict) else {given: {}}
    if len(attributes) != 1 or not attributes.keys() <= among.keys():
        yield f"{place}: «{', '.join(map(str, attributes))}» is unknown"
        return
    [(name, inner)] = attributes.items()
    yield from of_mapping(inner, names.get(name, {}).get("properties", {}), f"{place}.{name}", names)


def choices(schema: Schema) -> dict[str, Schema]:
    return {name: chosen for choice in schema.get("oneOf", ()) for name, chosen in choice["properties"].items()}


def comes_from_outside(given: Any) -> bool:
    return isinstance(given, str) and given.startswith("${")


def bare(schema: Any) -> Any:
    """Leave out what is for people to read."""
    if isinstance(schema, list):
        return [bare(item) for item in schema]
    if isinstance(schema, dict):
        return {key: bare(value) for key, value in schema.items() if key != "description" or isinstance(value, dict)}
    return schema


def cut(whole: Schema) -> str:
    """Give the roots that casc.yaml uses, with one definition to a line."""
    roots = []
    for root in ROOTS:
        definitions = whole["properties"][root]["properties"].items()
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(bare(definition))}" for name, definition in definitions)
        roots.append(f'"{root}": {{"properties": {{\n{lines}\n}}}}')
    return '{"properties": {\n' + ",\n".join(roots) + "\n}}\n"


if __name__ == "__main__":
    CUT.write_text(cut(json.loads(WHOLE.read_text())))
