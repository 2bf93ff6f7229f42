"""The .env file that Docker Compose reads: what its lines mean, and how a value is written so that it comes back whole.

Compose puts variables in place of what begins with $, in all but single quotes. That is refused here, for whoever
writes such a value has rarely meant it.
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
ESCAPED = {"\\": r"\\", '"': r"\"", "$": r"\$", "\n": r"\n", "\r": r"\r"}
MEANT = {written: meant for meant, written in ESCAPED.items()}


def values(text: str) -> dict[str, str]:
    """Return the variables of a file; the last of a name counts, as it does for Compose.

    Raises:
        UserError: a line is none that this module would write. It is told by its number: there may be a secret in it.
    """
    return {name: value for _, name, value in _read(text)}


def changed(text: str, new: Mapping[str, str]) -> str:
    """Return a file's text with these values: each in its place, or at the end, and all else as it was.

    Raises:
        UserError: as `values`.
    """
    lines = text.removesuffix("\n").split("\n") if text else []
    missing = dict(new)
    for at, name, _ in _read(text):
        if name in new:
            lines[at] = assignment(name, new[name])
            missing.pop(name, None)
    lines += [assignment(name, value) for name, value in missing.items()]
    return "".join(f"{line}\n" for line in lines)


def assignment(name: str, value: str) -> str:
    """Write one line."""
    if PLAIN.fullmatch(value):
        return f"{name}={value}"
    if not set(value) & {"'", "\\", "\n", "\r"}:
        return f"{name}='{value}'"
    return f'{name}="{"".join(ESCAPED.get(letter, letter) for letter in value)}"'


def _read(text: str) -> Iterator[tuple[int, str, str]]:
    """Give each assignment: the index of its line, its name and its value."""
    for at, line in enumerate(text.split("\n")):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = LINE.fullmatch(stripped)
        if not found:
            raise UserError(f"line {at + 1} is not NAME=value: put a value with quotes, «$» or «#» into single quotes")
        if (quoted := found["quoted"]) is not None:
            value = re.sub(r"\\.", lambda escape: MEANT[escape[0]], quoted)
        else:
            value = found["literal"] or found["plain"] or ""
        yield at, found["name"], value
