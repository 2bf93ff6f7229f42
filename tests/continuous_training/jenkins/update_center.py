"""The update centre's data: all plugins and their dependencies; and the pins of plugins.txt.

`python tests/continuous_training/jenkins/update_center.py` reduces ../shared/jenkins/update-center.json to the pinned
plugins, for tests on other machines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
COMPLETE = ROOT.parent / "shared/jenkins/update-center.json"
REDUCED = ROOT / "tests/continuous_training/jenkins/reference/update-center.json"
PINS = ROOT / "jenkins/plugins.txt"
DEPENDENCIES = "# Dependencies of these."  # the plugins above this line are the project's own

# The number, and the commit; two versions with the same number are never compared
VERSION = re.compile(r"(\d+(?:[.-]\d+)*)(?:[.-]v[0-9a-f_]+)?")


@dataclass(frozen=True)
class Plugin:
    """A plugin at its newest version; `dependencies` has the minimum version of each plugin that it requires."""

    version: str
    core: str
    dependencies: Mapping[str, str]
    deprecated: bool


@dataclass(frozen=True)
class UpdateCenter:
    """All plugins by name, for one version of Jenkins."""

    core: str
    plugins: Mapping[str, Plugin]

    def closure(self, names: Iterable[str]) -> set[str]:
        """Return these plugins and all their dependencies."""
        closure: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in closure:
                closure.add(name)
                waiting += self.plugins[name].dependencies
        return closure


def read(path: Path) -> UpdateCenter:
    content = json.loads(path.read_text())
    plugins = {
        name: Plugin(data["version"], data["requiredCore"], data["dependencies"], data["deprecated"])
        for name, data in content["plugins"].items()
    }
    return UpdateCenter(content["core"], plugins)


def pins(text: str) -> dict[str, str]:
    """Read plugins.txt, in which every line is a comment or `name:version`."""
    versions: dict[str, str] = {}
    for line in filter(None, text.splitlines()):
        if line.startswith("#"):
            continue
        pin = re.fullmatch(r"([a-z0-9-]+):(\S+)", line)
        if pin is None or pin[1] in versions or pin[2] == "latest":
            raise ValueError(f"«{line}» is no pin, or a duplicate")
        versions[pin[1]] = pin[2]
    return versions


def version_key(version: str) -> tuple[int, ...]:
    """Return the sort key of a version: 1.46 and 1.46.0 are equal."""
    match = VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"«{version}» is a version of an unknown format")
    numbers = [int(number) for number in re.split("[.-]", match[1])]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def reduce_data(data: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return data | {"plugins": {name: data["plugins"][name] for name in sorted(names)}}


if __name__ == "__main__":
    reduced = reduce_data(json.loads(COMPLETE.read_text()), pins(PINS.read_text()))
    REDUCED.write_text(json.dumps(reduced, indent=1) + "\n")
