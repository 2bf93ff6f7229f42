"""The .env file of Docker Compose: reading its lines, and writing values so that Compose reads them unchanged.

Outside single quotes Compose expands what begins with $. Such a value is refused here, because it is rarely intended.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LINE = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_]*)=
        (?: '(?P<literal>[^'\\]*)' (?:\s+\#.*)?
          | "(?P<quoted>(?:[^"\\$]|\\[\\"$nr])*)" (?:\s+\#.*)?
          | (?P<plain>(?!['"#\s])[^$\s]*(?:[^\S\n]+[^$\s#][^$\s]*)*) (?:\s+\#.*)?
          | \s*
        )""",
    re.VERBOSE,
)
PLAIN = re.compile(r"[A-Za-z0-9_./:@+,=-]*")
ESCAPES = {"\\": r"\\", '"': r"\"", "$": r"\$", "\n": r"\n", "\r": r"\r"}
LETTERS = {escape: letter for letter, escape in ESCAPES.items()}


def parse(text: str) -> dict[str, str]:
    """Return the variables of a file. The last assignment of a name counts, as for Compose.

    Raises:
        UserError: a line is malformed. The message has only its number, because the line may contain a secret.
    """
    return {name: value for _, name, value in _read(text)}


def update(text: str, new: Mapping[str, str]) -> str:
    """Return a file's text with these values, each in place or at the end; all other lines stay unchanged.

    Raises:
        UserError: as `parse`.
    """
    lines = text.removesuffix("\n").split("\n") if text else []
    missing = dict(new)
    for index, name, _ in _read(text):
        if name in new:
            lines[index] = assignment(name, new[name])
            missing.pop(name, None)
    lines += [assignment(name, value) for name, value in missing.items()]
    return "".join(f"{line}\n" for line in lines)


def assignment(name: str, value: str) -> str:
    """Return one line."""
    if PLAIN.fullmatch(value):
        return f"{name}={value}"
    if not set(value) & {"'", "\\", "\n", "\r"}:
        return f"{name}='{value}'"
    return f'{name}="{"".join(ESCAPES.get(letter, letter) for letter in value)}"'


def _read(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield each assignment: the index of its line, its name and its value."""
    for index, line in enumerate(text.split("\n")):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        match = LINE.fullmatch(content)
        if not match:
            raise UserError(f"line {index + 1} is not NAME=value: put a value with quotes, $ or # into single quotes")
        if (quoted := match["quoted"]) is not None:
            value = re.sub(r"\\.", lambda escape: LETTERS[escape[0]], quoted)
        else:
            value = match["literal"] or match["plain"] or ""
        yield index, match["name"], value
