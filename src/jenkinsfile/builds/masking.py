"""Secrets never reach the console, the log or a record."""

from __future__ import annotations

import re

MASK = "****"
SHORTEST_LINE = 3  # shorter lines of a secret of many lines (a lone brace) tell nothing and would mask everything


class Secrets:
    """The secret values of a build."""

    def __init__(self) -> None:
        self._pattern: re.Pattern[str] | None = None
        self._values: set[str] = set()

    def add(self, value: str) -> None:
        """Mask a value from now on: whole, each of its lines, and as a shell's trace quotes it."""
        lines = [line.strip() for line in value.splitlines()]
        for part in {value.strip(), *(line for line in lines if len(line) >= SHORTEST_LINE)} - {""}:
            self._values |= {part, part.replace("'", r"'\''"), part.replace("'", "'\"'\"'")}
        longest_first = sorted(self._values, key=lambda one: (-len(one), one))
        # A look-ahead finds the secrets that overlap another one too
        self._pattern = re.compile(f"(?=({'|'.join(map(re.escape, longest_first))}))") if longest_first else None

    def mask(self, text: str) -> str:
        """Give the text with `****` for every stretch that secrets cover."""
        if not self._pattern:
            return text
        shown, covered = [], 0
        for found in self._pattern.finditer(text):
            start, end = found.span(1)
            if start >= covered:
                shown += [text[covered:start], MASK]
            covered = max(covered, end)
        return "".join([*shown, text[covered:]])
