"""The parameters that a Jenkinsfile declares, and the values that a run gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jenkinsfile.errors import UsageError
from jenkinsfile.expressions import evaluator as expressions
from jenkinsfile.expressions.values import EvaluationError, Value, text
from jenkinsfile.syntax.model import Call, JenkinsfileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BOOLEANS = {"true": True, "false": False}


class ParameterError(UsageError):
    """A `-P NAME=VALUE` that the Jenkinsfile does not allow."""


@dataclass(frozen=True)
class Parameter:
    """One declared parameter."""

    kind: str
    name: str
    default: str | bool
    choices: tuple[str, ...] = ()
    description: str = ""

    @property
    def secret(self) -> bool:
        """Whether its value must not be shown."""
        return self.kind == "password"


def declared(calls: Iterable[Call]) -> list[Parameter]:
    """Read the `parameters {}` section. A parameter without a name is a JenkinsfileError."""
    return [_declared(call) for call in calls]


def values(parameters: Iterable[Parameter], given: Iterable[str]) -> dict[str, str | bool]:
    """Give every parameter its value, from `NAME=VALUE` or its default; ParameterError for one that cannot be."""
    known = {parameter.name: parameter for parameter in parameters}
    chosen: dict[str, str | bool] = {name: parameter.default for name, parameter in known.items()}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise ParameterError(f"-P takes NAME=VALUE, not «{one}»")
        if name not in known:
            raise ParameterError(f"there is no parameter «{name}»; there are: {', '.join(known) or 'none'}")
        chosen[name] = _checked(known[name], value)
    return chosen


def _checked(parameter: Parameter, value: str) -> str | bool:
    if parameter.kind == "booleanParam":
        if value.lower() not in BOOLEANS:
            raise ParameterError(f"{parameter.name} is true or false, not «{value}»")
        return BOOLEANS[value.lower()]
    if parameter.choices and value not in parameter.choices:
        raise ParameterError(f"{parameter.name} is one of {', '.join(parameter.choices)}, not «{value}»")
    return value


def _declared(call: Call) -> Parameter:
    given = {argument.name: expressions.evaluate(argument.value, _Nothing()) for argument in call.arguments}
    if not given.get("name"):
        raise JenkinsfileError(f"the parameter «{call.name}» has no name", call.position)
    choices: Any = given.get("choices", [])
    choices = choices.split("\n") if isinstance(choices, str) else list(map(text, choices))
    if call.name == "choice" and not choices:
        raise JenkinsfileError(f"the parameter «{given['name']}» has no choices", call.position)
    default = given.get("defaultValue")
    if call.name == "booleanParam":
        default = text(default).lower() == "true"
    elif call.name == "choice":
        default = choices[0]
    else:
        default = "" if default is None else text(default)
    return Parameter(call.name, given["name"], default, tuple(choices), text(given.get("description") or ""))


class _Nothing:
    """A scope without any name: parameters are declared before there is a build."""

    def variable(self, name: str) -> Value:
        raise EvaluationError(f"«{name}» is not known yet where parameters are declared")

    def call(self, name: str, _positional: list[Value], _named: Mapping[str, Value]) -> Value:
        raise EvaluationError(f"«{name}» is not known yet where parameters are declared")
