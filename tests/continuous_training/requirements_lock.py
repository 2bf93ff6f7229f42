"""Reads a lock file of Python packages."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def pins(lock: Path) -> dict[tuple[str, str], frozenset[str]]:
    """Return the hashes of each name and version."""
    text = re.sub(r"^#.*\n", "", lock.read_text(), flags=re.MULTILINE).replace("\\\n", "")
    hashes: dict[tuple[str, str], frozenset[str]] = {}
    for line in filter(None, text.splitlines()):
        requirement, *pin_hashes = re.split(r"\s+--hash=", line.strip())
        pin = Requirement(requirement)
        hashes[canonicalize_name(pin.name), str(pin.specifier)] = frozenset(pin_hashes)
    return hashes
