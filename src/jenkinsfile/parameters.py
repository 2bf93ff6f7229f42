"""The parameters that a Jenkinsfile declares, and their values in a build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jenkinsfile.errors import UsageError
from jenkinsfile.expressions.evaluator import evaluate
from jenkinsfile.expressions.values import EvaluationError, Value, to_string
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
    def is_secret(self) -> bool:
        """Whether its value must be masked."""
        return self.kind == "password"

    @property
    def choice_list(self) -> str:
        """The choices as text, with '' for an empty one."""
        return ", ".join(choice or "''" for choice in self.choices)


def read_parameters(calls: Iterable[Call]) -> list[Parameter]:
    """Read the `parameters {}` section. Raises JenkinsfileError for a parameter without a name or without choices."""
    return [_read_parameter(call) for call in calls]


def parse_assignments(parameters: Iterable[Parameter], assignments: Iterable[str]) -> dict[str, str | bool]:
    """Return the values of `NAME=VALUE` assignments. Raises ParameterError for an unknown name or a wrong value."""
    parameter_of_name = {parameter.name: parameter for parameter in parameters}
    values = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ParameterError(f"-P takes NAME=VALUE, not '{assignment}'")
        if name not in parameter_of_name:
            names = ", ".join(parameter_of_name) or "none"
            raise ParameterError(f"there is no parameter '{name}'; the parameters are: {names}")
        values[name] = _convert(parameter_of_name[name], value)
    return values


def default_values(parameters: Iterable[Parameter]) -> dict[str, str | bool]:
    """Return the default of each parameter."""
    return {parameter.name: parameter.default for parameter in parameters}


def _convert(parameter: Parameter, value: str) -> str | bool:
    if parameter.kind == "booleanParam":
        if value.lower() not in BOOLEANS:
            raise ParameterError(f"{parameter.name} must be true or false, not '{value}'")
        return BOOLEANS[value.lower()]
    if parameter.choices and value not in parameter.choices:
        raise ParameterError(f"{parameter.name} must be one of {parameter.choice_list}, not '{value}'")
    return value


def _read_parameter(call: Call) -> Parameter:
    arguments = {argument.name: evaluate(argument.value, _EmptyScope()) for argument in call.arguments}
    if not arguments.get("name"):
        raise JenkinsfileError(f"the parameter '{call.name}' has no name", call.position)
    choices: Any = arguments.get("choices", [])
    choices = choices.split("\n") if isinstance(choices, str) else list(map(to_string, choices))
    if call.name == "choice" and not choices:
        raise JenkinsfileError(f"the parameter '{arguments['name']}' has no choices", call.position)
    default = arguments.get("defaultValue")
    if call.name == "booleanParam":
        default = to_string(default).lower() == "true"
    elif call.name == "choice":
        default = choices[0]
    else:
        default = "" if default is None else to_string(default)
    description = to_string(arguments.get("description") or "")
    return Parameter(call.name, arguments["name"], default, tuple(choices), description)


class _EmptyScope:
    """A scope without names: parameters are declared before a build exists."""

    def variable(self, name: str) -> Value:
        raise EvaluationError(f"'{name}' is not available in 'parameters'")

    def call(self, name: str, _positional: list[Value], _named: Mapping[str, Value]) -> Value:
        raise EvaluationError(f"'{name}' is not available in 'parameters'")
