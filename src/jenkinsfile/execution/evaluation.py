"""Steps and expressions, run in a context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jenkinsfile.builds.results import Result
from jenkinsfile.catalogue import STEPS, SYMBOLS
from jenkinsfile.expressions import evaluator as expressions
from jenkinsfile.expressions.values import EvaluationError, Value
from jenkinsfile.steps.arguments import Given
from jenkinsfile.steps.input import person

if TYPE_CHECKING:
    from jenkinsfile.builds.context import Context
    from jenkinsfile.syntax.model import Call, Expression

SCM = "scm"
LOCAL_CAUSE = "UserIdCause"  # somebody started this run by hand


@dataclass(frozen=True)
class Symbol:
    """What a call like `string(credentialsId: 'x')` describes to the step that takes it."""

    name: str
    named: dict[str, Value] = field(default_factory=dict)


def execute(context: Context, calls: Iterable[Call]) -> None:
    """Run steps, one after the other. StepError, EvaluationError or Interrupted ends them."""
    for call in calls:
        context.interruption.check()
        if call.code:  # a `script` block, which holds one expression here
            evaluate(context, call.code)
            continue
        perform(context, call.name, named(context, call, STEPS[call.name].arguments), call.body or ())


def perform(context: Context, name: str, values: dict[str, Value], body: Iterable[Call] = ()) -> Value:
    """Run one step with evaluated arguments and give its value."""
    return STEPS[name].run(context, Given(name, values), lambda inner: execute(inner, body))


def named(context: Context, call: Call, known: Sequence[str]) -> dict[str, Value]:
    """Evaluate the arguments of a call; an unnamed one gets the first name that is known."""
    return {argument.name or known[0]: evaluate(context, argument.value) for argument in call.arguments}


def evaluate(context: Context, expression: Expression) -> Value:
    """Evaluate an expression; an error names its line."""
    try:
        return expressions.evaluate(expression, ContextScope(context))
    except EvaluationError as error:
        raise EvaluationError(f"line {expression.position.line}: {error}") from None


class ContextScope:
    """What an expression sees in a context: `params`, `env`, `currentBuild`, the variables, and the steps."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def variable(self, name: str) -> Value:
        """Give one of the objects, or an environment variable by its bare name."""
        match name:
            case "params":
                return self.context.build.parameters
            case "env":
                return self.context.environment
            case "currentBuild":
                return CurrentBuild(self.context)
            case "scm":
                return SCM
        if name in self.context.environment:
            return self.context.environment[name]
        raise EvaluationError(f"no such property: «{name}» is neither a parameter nor a variable of the environment")

    def call(self, name: str, positional: list[Value], named: dict[str, Value]) -> Value:
        """Run a step for its value, or describe something."""
        known = STEPS[name].arguments if name in STEPS else SYMBOLS.get(name)
        if known is None:
            raise EvaluationError(f"no such step: «{name}»")
        if len(positional) > len(known[:1]):
            raise EvaluationError(f"«{name}» takes at most one unnamed argument")
        values = {**dict(zip(known, positional, strict=False)), **named}
        return perform(self.context, name, values) if name in STEPS else Symbol(name, values)


class CurrentBuild(Mapping[str, Value]):
    """`currentBuild`: the result is null until something has set it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        build = context.build
        result = max(build.result, context.stage.result)
        self._values: dict[str, Value] = {
            "number": build.record.number,
            "id": str(build.record.number),
            "displayName": f"#{build.record.number}",
            "fullDisplayName": f"{context.environment.get('JOB_NAME', '')} #{build.record.number}",
            "projectName": context.environment.get("JOB_NAME"),
            "result": None if result is Result.SUCCESS else result.name,
            "currentResult": result.name,
            "description": build.record.description,
            "absoluteUrl": context.environment.get("BUILD_URL"),
            "previousBuild": None if build.previous is None else {"result": build.previous.name},
        }

    @property
    def causes(self) -> list[dict[str, str]]:
        """Why this run was started: somebody did it by hand."""
        who = person()
        return [
            {
                "_class": f"hudson.model.Cause${LOCAL_CAUSE}",
                "shortDescription": f"Started by user {who}",
                "userId": who,
                "userName": who,
            }
        ]

    def describe(self, description: str) -> None:
        """Say in a line what this run is, or was."""
        self._context.build.record.description = self._context.console.secrets.mask(description)
        self._context.build.save()
        self._context.say(f"description: {description}")

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str, _default: Value = None) -> Value:
        """Give a property; one that a local run does not know is an error, not null."""
        if name not in self._values:
            raise EvaluationError(f"currentBuild has no property «{name}» that ct run knows")
        return self._values[name]
