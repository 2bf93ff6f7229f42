"""The update centre's data: which plugins there are, what they need, and what plugins.txt pins of them.

`python tests/jenkins/update_center.py` cuts ../shared/jenkins/update-center.json down to what is pinned, for tests on
machines that do not have the whole of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
WHOLE = ROOT.parent / "shared/jenkins/update-center.json"
CUT = ROOT / "tests/continuous_training/jenkins/reference/update-center.json"
PINS = ROOT / "jenkins/plugins.txt"
OTHERS = "# Dependencies of these."  # all above this line is the project's own choice

# What a number does not tell, a commit does; no two commits of one number are ever compared.
VERSION = re.compile(r"(\d+(?:[.-]\d+)*)(?:[.-]v[0-9a-f_]+)?")


@dataclass(frozen=True)
class Plugin:
    """One plugin at its newest version; `needs` has the least version of each plugin that it cannot do without."""

    version: str
    core: str
    needs: Mapping[str, str]
    deprecated: bool


@dataclass(frozen=True)
class UpdateCenter:
    """All plugins, by their names, for one version of Jenkins itself."""

    core: str
    plugins: Mapping[str, Plugin]

    def closure(self, names: Iterable[str]) -> set[str]:
        """Give these plugins, and all that they need."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.plugins[name].needs
        return found


def read(path: Path) -> UpdateCenter:
    data = json.loads(path.read_text())
    plugins = {
        name: Plugin(each["version"], each["requiredCore"], each["dependencies"], each["deprecated"])
        for name, each in data["plugins"].items()
    }
    return UpdateCenter(data["core"], plugins)


def pins(text: str) -> dict[str, str]:
    """Read plugins.txt, of which every line is a comment or `name:version`."""
    found: dict[str, str] = {}
    for line in filter(None, text.splitlines()):
        if line.startswith("#"):
            continue
        pin = re.fullmatch(r"([a-z0-9-]+):(\S+)", line)
        if pin is None or pin[1] in found or pin[2] == "latest":
            raise ValueError(f"«{line}» is no pin, or a second one")
        found[pin[1]] = pin[2]
    return found


def ordered(version: str) -> tuple[int, ...]:
    """Give what versions are compared by: 1.46 and 1.46.0 are the same."""
    known = VERSION.fullmatch(version)
    if known is None:
        raise ValueError(f"«{version}» is a version of an unknown kind")
    numbers = [int(number) for number in re.split("[.-]", known[1])]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def cut(data: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return data | {"plugins": {name: data["plugins"][name] for name in sorted(names)}}


if __name__ == "__main__":
    chosen = cut(json.loads(WHOLE.read_text()), pins(PINS.read_text()))
    CUT.write_text(json.dumps(chosen, indent=1) + "\n")
