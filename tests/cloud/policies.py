"""IAM policies, evaluated with resources and conditions, which moto leaves out: what is not allowed is denied."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
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
    return (
        _listed(statement, "Action", wanted.action, fold=True)
        and _listed(statement, "Resource", wanted.resource)
        and all(
            _holds(operator, key, _many(values), wanted.context)
            for operator, expected in statement.get("Condition", {}).items()
            for key, values in expected.items()
        )
    )


def _listed(statement: Document, element: str, value: str, *, fold: bool = False) -> bool:
    if f"Not{element}" in statement:
        return not any(like(pattern, value, fold=fold) for pattern in _many(statement[f"Not{element}"]))
    return any(like(pattern, value, fold=fold) for pattern in _many(statement[element]))


def like(pattern: str, value: str, *, fold: bool = False) -> bool:
    """Tell whether a value matches a pattern with IAM's wildcards, * and ?."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, value, re.DOTALL | (re.IGNORECASE if fold else 0)) is not None


COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda pattern, value: pattern == value,
    "StringEqualsIgnoreCase": lambda pattern, value: pattern.lower() == value.lower(),
    "StringLike": like,
    "ArnEquals": like,
    "ArnLike": like,
    "Bool": lambda pattern, value: str(pattern).lower() == value.lower(),
    "NumericEquals": lambda pattern, value: float(value) == float(pattern),
    "NumericLessThanEquals": lambda pattern, value: float(value) <= float(pattern),
}


def _holds(operator: str, key: str, expected: list[Any], context: dict[str, list[str]]) -> bool:
    lowered = {name.lower(): values for name, values in context.items()}
    found = lowered.get(key.lower())
    quantifier, _, name = operator.rpartition(":")
    if name == "Null":
        return (str(expected[0]).lower() == "true") == (found is None)
    name, optional = name.removesuffix("IfExists"), name.endswith("IfExists")
    negated = name.replace("Not", "", 1) in COMPARISONS and "Not" in name
    if found is None:
        return optional or negated or quantifier == "ForAllValues"
    matches = COMPARISONS[name.replace("Not", "", 1)]
    each = [any(matches(pattern, value) for pattern in expected) != negated for value in found]
    return any(each) if quantifier == "ForAnyValue" or (not quantifier and not negated) else all(each)


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
