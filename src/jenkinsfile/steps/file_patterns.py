"""Ant's file patterns, which `archiveArtifacts`, `junit`, `stash` and `branch` take: `*`, `?` and `**`."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

NEVER = frozenset({".git", ".svn", ".hg", "CVS"})  # Ant's default excludes, and what nobody archives


def matches(pattern: str, path: str) -> bool:
    """Tell whether a path, with `/` between its parts, fits a pattern."""
    return _compiled(pattern).fullmatch(path) is not None


def find(folder: Path, includes: str, excludes: str = "") -> list[Path]:
    """Give the files below a folder that fit one of the includes and no exclude, both lists with commas."""
    wanted, unwanted = _listed(includes), _listed(excludes)
    found = []
    for base, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in NEVER]
        for name in files:
            path = Path(base, name).relative_to(folder).as_posix()
            if any(matches(one, path) for one in wanted) and not any(matches(one, path) for one in unwanted):
                found.append(folder / path)
    return sorted(found)


def _listed(patterns: str) -> list[str]:
    return [one for one in re.split(r"\s*,\s*", patterns.strip()) if one]


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    if pattern.endswith("/"):
        pattern += "**"
    expression = ""
    for part in re.split(r"(\*\*/|/\*\*$|\*\*|\*|\?)", pattern.removeprefix("./")):
        meaning = {"**/": "(?:.*/)?", "/**": "(?:/.*)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part)
        expression += re.escape(part) if meaning is None else meaning
    return re.compile(expression, re.DOTALL)
