"""The steps that say how other steps run, and what their end means."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, TypeVar

from jenkinsfile.builds.interruption import Interruption
from jenkinsfile.builds.results import InterruptedRunError, Result, StepError
from jenkinsfile.expressions.values import EvaluationError, text
from jenkinsfile.steps import credentials
from jenkinsfile.steps.arguments import Given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jenkinsfile.builds.context import Body, Context

T = TypeVar("T")
FAILURES = (StepError, EvaluationError, InterruptedRunError)


def result_of(failure: Exception) -> Result:
    """Give the result that a failure means."""
    return Result.ABORTED if isinstance(failure, InterruptedRunError) else Result.FAILURE


@contextmanager
def told(context: Context) -> Iterator[None]:
    """Say at once what fails in the block."""
    try:
        yield
    except FAILURES as failure:
        context.say(f"ERROR: {failure}", "red")
        raise


def echo(context: Context, given: Given, _body: Body) -> None:
    """Show a message."""
    context.say(given.text("message"))


def error(_context: Context, given: Given, _body: Body) -> NoReturn:
    """Fail."""
    raise StepError(given.text("message"))


def unstable(context: Context, given: Given, _body: Body) -> None:
    """Make the stage and the build UNSTABLE, and go on."""
    context.say(f"WARNING: {given.text('message')}", "yellow")
    context.unstable(Result.UNSTABLE)


def catch_error(context: Context, given: Given, body: Body) -> None:
    """Run the body; if it fails, set the results that are asked for, and go on."""
    build_result = given.result("buildResult", Result.FAILURE)
    stage_result = given.result("stageResult", build_result)
    _catch(context, given, body, build_result, stage_result)


def warn_error(context: Context, given: Given, body: Body) -> None:
    """Run the body; if it fails, make the stage and the build UNSTABLE, and go on."""
    _catch(context, given, body, Result.UNSTABLE, Result.UNSTABLE)


def _catch(context: Context, given: Given, body: Body, build_result: Result, stage_result: Result) -> None:
    try:
        body(context)
    except FAILURES as caught:
        interrupted = isinstance(caught, InterruptedRunError)
        if context.interruption.cause or (interrupted and not given.flag("catchInterruptions", default=True)):
            raise  # what ended is more than the body
        if message := given.text("message", ""):
            context.say(f"ERROR: {message}", "red")
        context.say(f"ERROR: {caught}", "red")
        context.unstable(build_result, stage_result)


def timeout(context: Context, given: Given, body: Body) -> None:
    """Run the body, but not longer than it may."""
    scope = Interruption(context.interruption, seconds=given.seconds())
    body(context.within(interruption=scope))
    scope.check()


def retry(context: Context, given: Given, body: Body) -> None:
    """Run the body until it succeeds, `count` times at most."""
    repeat(context, int(given.number("count")), lambda: body(context))


def repeat(context: Context, count: int, attempt: Callable[[], T]) -> T:
    """Call until nothing fails; the last failure is raised, and so is an interruption of more than the attempt."""
    for left in range(count - 1, 0, -1):
        try:
            return attempt()
        except FAILURES as failure:
            context.interruption.check()
            context.say(f"retrying ({left} left) after: {failure}", "yellow")
    return attempt()


def sleep(context: Context, given: Given, _body: Body) -> None:
    """Wait."""
    context.interruption.sleep(given.seconds(unit="SECONDS"))


def with_environment(context: Context, given: Given, body: Body) -> None:
    """Run the body with more environment variables; `PATH+NAME=folder` puts a folder before the others."""
    variables = dict(context.environment)
    for entry in map(text, given.items("overrides")):
        name, equals, value = entry.partition("=")
        if not equals:
            raise StepError(f"«withEnv» takes NAME=value, not «{entry}»")
        name, plus, _ = name.partition("+")
        variables[name] = f"{value}:{variables[name]}" if plus and variables.get(name) else value
    body(context.within(environment=variables))


def with_credentials(context: Context, given: Given, body: Body) -> None:
    """Run the body with credentials in environment variables."""
    variables: dict[str, str] = {}
    for binding in given.items("bindings"):
        found = Given(binding.name, binding.named)
        variables |= credentials.for_binding(binding.name, found, context.build.credentials)
    body(context.with_variables(variables))
