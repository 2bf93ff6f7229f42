"""The symbols that a Jenkinsfile can use, with the plugin of each, from the lists of a controller 2.507."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).parent / "reference"

# Steps of a plugin that was not installed on that controller, from the plugin's documentation.
UNLISTED_STEPS: dict[str, Any] = {
    "addBadge": {
        "plugin": "badge",
        "takesBlock": False,
        "parameters": [
            {"name": name, "type": "String", "required": False}
            for name in ("cssClass", "icon", "id", "link", "style", "target", "text")
        ],
    }
}


def read_symbols() -> dict[str, dict[str, Any]]:
    """Return the symbols by kind (`steps`, `triggers`, …) and name, each with its plugin and its arguments."""
    symbols: dict[str, dict[str, Any]] = json.loads((REFERENCE / "pipeline-symbols.json").read_text())
    return symbols | {"steps": symbols["steps"] | UNLISTED_STEPS}
