"""`when`: whether a stage runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jenkinsfile.builds.changes import changed_files
from jenkinsfile.catalogue import CONDITIONS
from jenkinsfile.execution.evaluation import LOCAL_CAUSE, evaluate
from jenkinsfile.expressions.operators import equal
from jenkinsfile.expressions.values import Value, text, truth
from jenkinsfile.steps import file_patterns as patterns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jenkinsfile.builds.context import Build, Context
    from jenkinsfile.syntax.model import Call, When

CHANGE_REQUEST = {"id": "ID", "authorEmail": "AUTHOR_EMAIL"}  # other attributes are their own names in upper case


def hold(context: Context, when: When) -> bool:
    """Tell whether all conditions hold, asked in their order until one does not."""
    return all(holds(context, call) for call in when.conditions)


def holds(context: Context, call: Call) -> bool:
    """Tell whether one condition holds."""
    children = call.body or ()
    match call.name:
        case "not":
            return not holds(context, children[0])
        case "allOf":
            return all(holds(context, child) for child in children)
        case "anyOf":
            return any(holds(context, child) for child in children)
        case "expression" if call.code:
            return truth(evaluate(context, call.code))
    given = {
        argument.name or name: evaluate(context, argument.value)
        for argument, name in zip(call.arguments, CONDITIONS[call.name], strict=False)
    }
    if call.name == "changeset":
        return _changed(context.build, given)
    return _holds(context.environment, call.name, given, restarted=context.build.restarted)


def _changed(build: Build, given: dict[str, Value]) -> bool:
    """Tell whether a file that changed since the previous build fits the pattern; upper and lower case are the same."""
    fold = str if given.get("caseSensitive") is True else str.lower
    folded = given | {"pattern": fold(text(given["pattern"]))}
    return any(
        _compare(folded, folded["pattern"], fold(path))
        for path in changed_files(build.workspace, build.previous_commit)
    )


def _holds(environment: Mapping[str, str], name: str, given: dict[str, Value], *, restarted: bool) -> bool:
    match name:
        case "branch":
            return _compare(given, given["pattern"], environment.get("BRANCH_NAME"))
        case "tag":
            return _compare(given, given.get("pattern"), environment.get("TAG_NAME"))
        case "buildingTag":
            return "TAG_NAME" in environment
        case "environment":
            return environment.get(text(given["name"]), "") == text(given["value"])
        case "equals":
            return equal(given["expected"], given["actual"])
        case "isRestartedRun":
            return restarted
        case "triggeredBy":
            return text(given["cause"]).rpartition("$")[2] in {LOCAL_CAUSE, f"hudson.model.Cause.{LOCAL_CAUSE}"}
    return "CHANGE_ID" in environment and all(
        _compare(given, wanted, environment.get(f"CHANGE_{CHANGE_REQUEST.get(key, key.upper())}"))
        for key, wanted in given.items()
        if key != "comparator"
    )


def _compare(given: Mapping[str, Value], pattern: Value, actual: str | None) -> bool:
    if actual is None:
        return False
    if pattern is None:
        return True
    match given.get("comparator", "GLOB"):
        case "REGEXP":
            return re.fullmatch(text(pattern), actual) is not None
        case "EQUALS":
            return text(pattern) == actual
    return patterns.matches(text(pattern), actual)
