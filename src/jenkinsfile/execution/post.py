"""`post`: which of its conditions hold, in Jenkins' order, and their steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jenkinsfile.builds.interruption import Interruption
from jenkinsfile.builds.results import Result
from jenkinsfile.catalogue import POST
from jenkinsfile.execution.evaluation import execute
from jenkinsfile.steps.control_flow import FAILURES, result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jenkinsfile.builds.context import Context
    from jenkinsfile.syntax.model import PostCondition

FIXED_FROM = frozenset({Result.FAILURE, Result.UNSTABLE})
REGRESSED_TO = frozenset({Result.FAILURE, Result.UNSTABLE, Result.ABORTED})


def run_post(context: Context, conditions: Sequence[PostCondition], result: Callable[[], Result]) -> bool:
    """Run the steps of all conditions that hold; gives whether one of them failed.

    They run whatever has ended the stages: only a second signal ends them. A failure in one makes the result FAILURE,
    which those after it see.
    """
    scope = context.within(interruption=Interruption(context.build.last_interruption))
    failed = False
    for condition in sorted(conditions, key=lambda one: POST.index(one.name)):
        if not holds(condition.name, result(), context.build.previous):
            continue
        try:
            execute(scope, condition.steps)
        except FAILURES as failure:
            context.say(f"ERROR in post {condition.name}: {failure}", "red")
            context.unstable(result_of(failure))
            failed = True
    return failed


def holds(condition: str, now: Result, previous: Result | None) -> bool:
    """Tell whether a condition holds for a result and that of the previous build (None: there is none)."""
    match condition:
        case "always" | "cleanup":
            return True
        case "changed":
            return now is not previous
        case "fixed":
            return now is Result.SUCCESS and previous in FIXED_FROM
        case "regression":
            return now in REGRESSED_TO and previous is Result.SUCCESS
        case "unsuccessful":
            return now is not Result.SUCCESS
    return now.name == condition.upper()
