"""Runs steps and evaluates expressions in the context of a build."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jenkinsfile.catalogue import STEPS, SYMBOLS
from jenkinsfile.execution.current_build import CurrentBuild
from jenkinsfile.expressions import evaluator
from jenkinsfile.expressions.values import EvaluationError, Value
from jenkinsfile.steps.arguments import StepArguments

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jenkinsfile.builds.context import Context
    from jenkinsfile.syntax.model import Call, Expression

SCM = "scm"


@dataclass(frozen=True)
class Symbol:
    """The value of a call such as `string(credentialsId: 'x')`, which describes an argument of a step."""

    name: str
    arguments: dict[str, Value] = field(default_factory=dict)


def run_steps(context: Context, calls: Iterable[Call]) -> None:
    """Run steps in sequence. Raises StepError, EvaluationError or InterruptedRunError for the first failure."""
    for call in calls:
        context.interruption.check()
        if call.code:  # a `script` block, which holds one expression in a local run
            evaluate(context, call.code)
            continue
        run_step(context, call.name, evaluate_arguments(context, call, STEPS[call.name].arguments), call.body or ())


def run_step(context: Context, name: str, values: dict[str, Value], body: Iterable[Call] = ()) -> Value:
    """Run one step with evaluated arguments and return its value."""
    return STEPS[name].run(context, StepArguments(name, values), lambda inner: run_steps(inner, body))


def evaluate_arguments(context: Context, call: Call, names: Sequence[str]) -> dict[str, Value]:
    """Evaluate the arguments of a call. An unnamed argument gets the first of the names."""
    return {argument.name or names[0]: evaluate(context, argument.value) for argument in call.arguments}


def evaluate(context: Context, expression: Expression) -> Value:
    """Evaluate an expression. The message of an EvaluationError has its line."""
    try:
        return evaluator.evaluate(expression, ContextScope(context))
    except EvaluationError as error:
        raise EvaluationError(f"line {expression.position.line}: {error}") from None


class ContextScope:
    """The scope of expressions: `params`, `env`, `currentBuild`, `scm`, environment variables and steps."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def variable(self, name: str) -> Value:
        """Return one of the objects, or an environment variable by its name."""
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
        raise EvaluationError(f"no such property: '{name}' is neither a parameter nor an environment variable")

    def call(self, name: str, positional: list[Value], named_arguments: dict[str, Value]) -> Value:
        """Run a step and return its value, or return a symbol."""
        names = STEPS[name].arguments if name in STEPS else SYMBOLS.get(name)
        if names is None:
            raise EvaluationError(f"there is no step '{name}'")
        if len(positional) > len(names[:1]):
            raise EvaluationError(f"'{name}' takes at most one unnamed argument")
        values = {**dict(zip(names, positional, strict=False)), **named_arguments}
        return run_step(self.context, name, values) if name in STEPS else Symbol(name, values)
