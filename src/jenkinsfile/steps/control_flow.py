"""The steps that control how other steps run, and what a failure means."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeVar

from jenkinsfile.builds.failures import FAILURES
from jenkinsfile.builds.interruption import Interruption
from jenkinsfile.builds.results import InterruptedRunError, Result, StepError
from jenkinsfile.expressions.values import to_string

if TYPE_CHECKING:
    from collections.abc import Callable

    from jenkinsfile.builds.context import Body, Context
    from jenkinsfile.steps.arguments import StepArguments

T = TypeVar("T")


def echo(context: Context, arguments: StepArguments, _body: Body) -> None:
    """Write a message to the console."""
    context.log(arguments.text("message"))


def error(_context: Context, arguments: StepArguments, _body: Body) -> NoReturn:
    """Fail with a message."""
    raise StepError(arguments.text("message"))


def unstable(context: Context, arguments: StepArguments, _body: Body) -> None:
    """Set the results of the stage and the build to UNSTABLE, and continue."""
    context.log(f"WARNING: {arguments.text('message')}", "yellow")
    context.worsen(Result.UNSTABLE)


def catch_error(context: Context, arguments: StepArguments, body: Body) -> None:
    """Run the body. If it fails, set `buildResult` and `stageResult`, and continue."""
    build_result = arguments.result("buildResult", Result.FAILURE)
    stage_result = arguments.result("stageResult", build_result)
    _catch(context, arguments, body, build_result, stage_result)


def warn_error(context: Context, arguments: StepArguments, body: Body) -> None:
    """Run the body. If it fails, set the results of the stage and the build to UNSTABLE, and continue."""
    _catch(context, arguments, body, Result.UNSTABLE, Result.UNSTABLE)


def _catch(context: Context, arguments: StepArguments, body: Body, build_result: Result, stage_result: Result) -> None:
    try:
        body(context)
    except FAILURES as failure:
        is_interruption = isinstance(failure, InterruptedRunError)
        if context.interruption.cause or (
            is_interruption and not arguments.boolean("catchInterruptions", default=True)
        ):
            raise  # more than the body is interrupted
        if message := arguments.text("message", ""):
            context.log(f"ERROR: {message}", "red")
        context.log(f"ERROR: {failure}", "red")
        context.worsen(build_result, stage_result)


def timeout(context: Context, arguments: StepArguments, body: Body) -> None:
    """Run the body, and interrupt it after the timeout."""
    scope = Interruption(context.interruption, seconds=arguments.seconds())
    body(context.replace(interruption=scope))
    scope.check()


def retry(context: Context, arguments: StepArguments, body: Body) -> None:
    """Run the body until it succeeds, at most `count` times."""
    repeat(context, int(arguments.number("count")), lambda: body(context))


def repeat(context: Context, count: int, attempt: Callable[[], T]) -> T:
    """Call `attempt` until it succeeds, at most `count` times. Raises the last failure.

    An interruption of the surrounding scope is raised at once.
    """
    for remaining in range(count - 1, 0, -1):
        try:
            return attempt()
        except FAILURES as failure:
            context.interruption.check()
            context.log(f"retrying ({remaining} attempts remain) after: {failure}", "yellow")
    return attempt()


def sleep(context: Context, arguments: StepArguments, _body: Body) -> None:
    """Wait."""
    context.interruption.sleep(arguments.seconds(default_unit="SECONDS"))


def with_environment(context: Context, arguments: StepArguments, body: Body) -> None:
    """Run the body with more environment variables. `PATH+NAME=folder` prepends a folder."""
    variables = dict(context.environment)
    for entry in map(to_string, arguments.items("overrides")):
        name, equals, value = entry.partition("=")
        if not equals:
            raise StepError(f"'withEnv' takes NAME=value, not '{entry}'")
        name, plus, _ = name.partition("+")
        variables[name] = f"{value}:{variables[name]}" if plus and variables.get(name) else value
    body(context.replace(environment=variables))
