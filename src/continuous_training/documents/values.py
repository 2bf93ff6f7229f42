"""The base of all values that are stored as JSON, and the text that a person writes."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

MAX_LENGTH = 500  # of a line: a rollback writes its hold's into the lock's claim, beside its own

Scalar = str | float | int | bool | None


def _to_line(text: str) -> str:
    """Return a text as one short line that can be printed; it may come from whoever can write to the registry."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    if not line:
        raise ValueError("it is empty")
    return line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 1]}…"


Line = Annotated[str, AfterValidator(_to_line)]


class Value(BaseModel):
    """An immutable value: no unknown fields, no changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
