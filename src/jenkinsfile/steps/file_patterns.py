"""Ant's file patterns, which `archiveArtifacts`, `junit`, `stash`, `branch` and `changeset` take: `*`, `?`, `**`."""

from __future__ import annotations

import functools
import itertools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

EXCLUDED_FOLDERS = frozenset({".git", ".svn", ".hg", "CVS"})  # Ant's default excludes
REGEX_OF_WILDCARD = {"**/": "(?:.*/)?", "/**": "(?:/.*)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def matches(pattern: str, path: str) -> bool:
    """Return whether a path, with `/` between its parts, matches a pattern."""
    return _compile(pattern).fullmatch(path) is not None


def find_files(folder: Path, includes: str, excludes: str = "") -> list[Path]:
    """Return the files below a folder that match an include and no exclude. Both are comma-separated lists."""
    exclude_patterns = _split(excludes)
    paths = set()
    for pattern in _split(includes):
        for path in _walk(folder, _literal_folder(pattern)):
            if matches(pattern, path) and not any(matches(exclude, path) for exclude in exclude_patterns):
                paths.add(folder / path)
    return sorted(paths)


def _walk(folder: Path, start: str) -> Iterator[str]:
    """Yield the paths of the files below `start`, relative to the folder."""
    for parent, folders, files in os.walk(folder / start):
        folders[:] = [name for name in folders if name not in EXCLUDED_FOLDERS]
        relative = Path(parent).relative_to(folder)
        yield from ((relative / name).as_posix() for name in files)


def _literal_folder(pattern: str) -> str:
    """Return the folder that a pattern names before its first wildcard: a workspace may hold very many other files."""
    parts = pattern.removeprefix("./").split("/")
    names = list(itertools.takewhile(lambda part: not re.search(r"[*?]", part), parts[:-1]))
    return "" if {"", ".", ".."} & set(names) or EXCLUDED_FOLDERS & set(names) else "/".join(names)


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
