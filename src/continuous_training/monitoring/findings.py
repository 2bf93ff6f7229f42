"""Findings: what the monitor reports beside the verdict, as values of its document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from continuous_training.documents import Value

FORMER_KINDS = {"fault": "error", "odd": "warning"}  # which earlier releases wrote


def _rename_kind(kind: Any) -> Any:  # noqa: ANN401 - whatever the document has
    return FORMER_KINDS.get(kind, kind) if isinstance(kind, str) else kind


class Finding(Value):
    """A message for a person; `column` names the column that it is about.

    An `error` means that a part of the check could not run, a `warning` that the incoming data has a quality problem; a
    `note` is information.
    """

    kind: Annotated[Literal["error", "warning", "note"], BeforeValidator(_rename_kind)]
    message: str
    column: str | None = None
