"""Masks secrets in the console, the log and the records."""

from __future__ import annotations

import re

MASK = "****"
MINIMUM_LINE_LENGTH = 3  # a shorter line of a multi-line secret, such as a brace, is no secret and would mask too much


class Secrets:
    """The secret values of a build."""

    def __init__(self) -> None:
        self._pattern: re.Pattern[str] | None = None
        self._values: set[str] = set()

    def add(self, value: str) -> None:
        """Add a secret: its whole value, each of its lines, and the way in which a shell's trace quotes them."""
        lines = [line.strip() for line in value.splitlines()]
        for part in {value.strip(), *(line for line in lines if len(line) >= MINIMUM_LINE_LENGTH)} - {""}:
            self._values |= {part, part.replace("'", r"'\''"), part.replace("'", "'\"'\"'")}
        longest_first = sorted(self._values, key=lambda secret: (-len(secret), secret))
        # A look-ahead also finds secrets that overlap another one
        self._pattern = re.compile(f"(?=({'|'.join(map(re.escape, longest_first))}))") if longest_first else None

    def mask(self, text: str) -> str:
        """Return the text with `****` in place of each sequence that secrets cover."""
        if not self._pattern:
            return text
        parts, end = [], 0
        for match in self._pattern.finditer(text):
            if match.start(1) >= end:
                parts += [text[end : match.start(1)], MASK]
            end = max(end, match.end(1))
        return "".join([*parts, text[end:]])
