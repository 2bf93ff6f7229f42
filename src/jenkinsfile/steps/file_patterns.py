"""Ant's file patterns, which `archiveArtifacts`, `junit`, `stash`, `branch` and `changeset` take: `*`, `?`, `**`."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

EXCLUDED_FOLDERS = frozenset({".git", ".svn", ".hg", "CVS"})  # Ant's default excludes
REGEX_OF_WILDCARD = {"**/": "(?:.*/)?", "/**": "(?:/.*)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def matches(pattern: str, path: str) -> bool:
    """Return whether a path, with `/` between its parts, matches a pattern."""
    return _compile(pattern).fullmatch(path) is not None


def find_files(folder: Path, includes: str, excludes: str = "") -> list[Path]:
    """Return the files below a folder that match an include and no exclude. Both are comma-separated lists."""
    include_patterns, exclude_patterns = _split(includes), _split(excludes)
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in EXCLUDED_FOLDERS]
        for name in files:
            path = Path(parent, name).relative_to(folder).as_posix()
            if _matches_any(include_patterns, path) and not _matches_any(exclude_patterns, path):
                paths.append(folder / path)
    return sorted(paths)


def _matches_any(patterns: list[str], path: str) -> bool:
    return any(matches(pattern, path) for pattern in patterns)


def _split(patterns: str) -> list[str]:
    return [pattern for pattern in re.split(r"\s*,\s*", patterns.strip()) if pattern]


@functools.cache
def _compile(pattern: str) -> re.Pattern[str]:
    if pattern.endswith("/"):
        pattern += "**"
    regex = ""
    for part in re.split(r"(\*\*/|/\*\*$|\*\*|\*|\?)", pattern.removeprefix("./")):
        regex += REGEX_OF_WILDCARD.get(part) or re.escape(part)
    return re.compile(regex, re.DOTALL)
