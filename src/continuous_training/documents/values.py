"""The base of all values that are stored as JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Scalar = str | float | int | bool | None


class Value(BaseModel):
    """An immutable value: no unknown fields, no changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
