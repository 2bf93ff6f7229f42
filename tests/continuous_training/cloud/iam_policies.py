"""IAM policies, evaluated with resources and conditions, which moto leaves out: what is not allowed is denied."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Permission:
    """What a call needs: an action on a resource, in a context of condition keys."""

    action: str
    resource: str = "*"
    context: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.action} on resource: {self.resource}"


def allowed(documents: Iterable[Document], wanted: Permission) -> bool:
    """Tell whether some statement allows it and none denies it."""
    effects = {
        statement["Effect"]
        for document in documents
        for statement in _many(document["Statement"])
        if _concerns(statement, wanted)
    }
    return effects == {"Allow"}


def _concerns(statement: Document, wanted: Permission) -> bool:
    if unknown := set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}:
        raise NotImplementedError(f"{unknown} in a policy")
    return (
        any(like(pattern, wanted.action, fold=True) for pattern in _many(statement["Action"]))
        and any(like(pattern, wanted.resource) for pattern in _many(statement["Resource"]))
        and all(_holds(*condition, wanted.context) for condition in statement.get("Condition", {}).items())
    )


def _holds(operator: str, expected: dict[str, Any], context: dict[str, list[str]]) -> bool:
    if operator != "StringEquals":
        raise NotImplementedError(f"{operator} in a policy's condition")
    lowered = {name.lower(): values for name, values in context.items()}
    return all(set(_many(values)) & set(lowered.get(key.lower(), [])) for key, values in expected.items())


def like(pattern: str, value: str, *, fold: bool = False) -> bool:
    """Tell whether a value matches a pattern with IAM's wildcards, * and ?."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, value, re.DOTALL | (re.IGNORECASE if fold else 0)) is not None


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
