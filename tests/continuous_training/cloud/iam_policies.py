"""Evaluates IAM policies with resources and conditions, which moto does not: the default is to deny."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Permission:
    """A permission that a call requires: an action on a resource, with condition keys."""

    action: str
    resource: str = "*"
    context: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.action} on resource: {self.resource}"


def is_allowed(documents: Iterable[Document], permission: Permission) -> bool:
    """Return whether a statement allows it and none denies it."""
    effects = {
        statement["Effect"]
        for document in documents
        for statement in _as_list(document["Statement"])
        if _matches(statement, permission)
    }
    return effects == {"Allow"}


def _matches(statement: Document, permission: Permission) -> bool:
    if unknown := set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}:
        raise NotImplementedError(f"{unknown} in a policy")
    return (
        any(matches_pattern(pattern, permission.action, ignore_case=True) for pattern in _as_list(statement["Action"]))
        and any(matches_pattern(pattern, permission.resource) for pattern in _as_list(statement["Resource"]))
        and all(_is_met(*condition, permission.context) for condition in statement.get("Condition", {}).items())
    )


def _is_met(operator: str, expected: dict[str, Any], context: dict[str, list[str]]) -> bool:
    if operator != "StringEquals":
        raise NotImplementedError(f"{operator} in a policy's condition")
    lower = {name.lower(): values for name, values in context.items()}
    return all(set(_as_list(values)) & set(lower.get(key.lower(), [])) for key, values in expected.items())


def matches_pattern(pattern: str, value: str, *, ignore_case: bool = False) -> bool:
    """Return whether a value matches a pattern with IAM's wildcards, * and ?."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, value, re.DOTALL | (re.IGNORECASE if ignore_case else 0)) is not None


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
