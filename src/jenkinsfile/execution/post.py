"""Runs `post`: the steps of those conditions that hold, in Jenkins' order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jenkinsfile.builds.failures import FAILURES, failure_result
from jenkinsfile.builds.interruption import Interruption
from jenkinsfile.builds.results import Result
from jenkinsfile.catalogue import POST_CONDITIONS
from jenkinsfile.execution.evaluation import run_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jenkinsfile.builds.context import Context
    from jenkinsfile.syntax.model import PostCondition

FIXED_FROM = frozenset({Result.FAILURE, Result.UNSTABLE})
REGRESSION_TO = frozenset({Result.FAILURE, Result.UNSTABLE, Result.ABORTED})


def run_post(context: Context, conditions: Sequence[PostCondition], result: Callable[[], Result]) -> bool:
    """Run the steps of all conditions that hold. Returns whether one of them failed.

    They run whatever interrupted the stages; only a second signal interrupts them. A failure in one condition worsens
    the result, which the next conditions see.
    """
    post_context = context.replace(interruption=Interruption(context.build.post_interruption))
    has_failed = False
    for condition in sorted(conditions, key=lambda condition: POST_CONDITIONS.index(condition.name)):
        if not condition_holds(condition.name, result(), context.build.previous.result):
            continue
        try:
            run_steps(post_context, condition.steps)
        except FAILURES as failure:
            context.log(f"ERROR in post {condition.name}: {failure}", "red")
            context.worsen(failure_result(failure))
            has_failed = True
    return has_failed


def condition_holds(condition: str, result: Result, previous: Result | None) -> bool:
    """Return whether a condition holds for a result and that of the previous build (None: there is none)."""
    match condition:
        case "always" | "cleanup":
            return True
        case "changed":
            return result is not previous
        case "fixed":
            return result is Result.SUCCESS and previous in FIXED_FROM
        case "regression":
            return result in REGRESSION_TO and previous is Result.SUCCESS
        case "unsuccessful":
            return result is not Result.SUCCESS
    return result.name == condition.upper()
