"""Evaluates `when`: whether a stage runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jenkinsfile.catalogue import CONDITIONS
from jenkinsfile.execution.current_build import USER_CAUSE
from jenkinsfile.execution.evaluation import evaluate
from jenkinsfile.expressions.operators import equal
from jenkinsfile.expressions.values import Value, is_true, to_string
from jenkinsfile.steps import file_patterns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jenkinsfile.builds.context import Build, Context
    from jenkinsfile.syntax.model import Call, When

# The variable CHANGE_… of an argument of `changeRequest`, where it is not the argument's name in upper case.
CHANGE_REQUEST_VARIABLES = {"id": "ID", "authorEmail": "AUTHOR_EMAIL"}


def evaluate_when(context: Context, when: When) -> bool:
    """Return whether all conditions hold. Those after the first that does not hold are not evaluated."""
    return all(evaluate_condition(context, call) for call in when.conditions)


def evaluate_condition(context: Context, call: Call) -> bool:
    """Return whether one condition holds."""
    children = call.body or ()
    match call.name:
        case "not":
            return not evaluate_condition(context, children[0])
        case "allOf":
            return all(evaluate_condition(context, child) for child in children)
        case "anyOf":
            return any(evaluate_condition(context, child) for child in children)
        case "expression" if call.code:
            return is_true(evaluate(context, call.code))
    arguments = {
        argument.name or name: evaluate(context, argument.value)
        for argument, name in zip(call.arguments, CONDITIONS[call.name], strict=False)
    }
    match call.name:
        case "changeset":
            return _has_changes(context.build, arguments)
        case "isRestartedRun":
            return context.build.record.origin_build is not None
    return _matches_environment(context.environment, call.name, arguments)


def _matches_environment(environment: Mapping[str, str], name: str, arguments: dict[str, Value]) -> bool:
    match name:
        case "branch":
            return _compare(arguments, arguments["pattern"], environment.get("BRANCH_NAME"))
        case "tag":
            return _compare(arguments, arguments.get("pattern"), environment.get("TAG_NAME"))
        case "buildingTag":
            return "TAG_NAME" in environment
        case "environment":
            return environment.get(to_string(arguments["name"]), "") == to_string(arguments["value"])
        case "equals":
            return equal(arguments["expected"], arguments["actual"])
        case "triggeredBy":
            cause = to_string(arguments["cause"]).rpartition("$")[2]
            return cause in {USER_CAUSE, f"hudson.model.Cause.{USER_CAUSE}"}
    return "CHANGE_ID" in environment and all(
        _compare(arguments, pattern, environment.get(f"CHANGE_{CHANGE_REQUEST_VARIABLES.get(key, key.upper())}"))
        for key, pattern in arguments.items()
        if key != "comparator"
    )


def _has_changes(build: Build, arguments: dict[str, Value]) -> bool:
    """Return whether a file that changed since the previous build matches the pattern, by default in any case."""
    fold = str if arguments.get("caseSensitive") is True else str.lower
    pattern = fold(to_string(arguments["pattern"]))
    return any(_compare(arguments, pattern, fold(path)) for path in build.changed_files)


def _compare(arguments: Mapping[str, Value], pattern: Value, value: str | None) -> bool:
    """Compare a value with a pattern as the argument `comparator` says. A missing pattern matches every value."""
    if value is None:
        return False
    if pattern is None:
        return True
    match arguments.get("comparator", "GLOB"):
        case "REGEXP":
            return re.fullmatch(to_string(pattern), value) is not None
        case "EQUALS":
            return to_string(pattern) == value
    return file_patterns.matches(to_string(pattern), value)
