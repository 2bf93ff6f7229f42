"""What a Jenkinsfile can name, and the plugin that provides it, as a real controller 2.507 listed it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).parent / "reference"

# Of a plugin that was not installed there, from its own documentation.
ADDED: dict[str, Any] = {
    "addBadge": {
        "plugin": "badge",
        "takesBlock": False,
        "parameters": [
            {"name": name, "type": "String", "required": False}
            for name in ("cssClass", "icon", "id", "link", "style", "target", "text")
        ],
    }
}


def symbols() -> dict[str, dict[str, Any]]:
    """Give what there is by its kind (`steps`, `triggers`, …) and name, each with its plugin and its arguments."""
    listed: dict[str, dict[str, Any]] = json.loads((REFERENCE / "pipeline-symbols.json").read_text())
    return listed | {"steps": listed["steps"] | ADDED}
