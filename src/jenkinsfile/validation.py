"""Finds everything in a Jenkinsfile that a local run does not support, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jenkinsfile.catalogue import (
    COMPOSITE_CONDITIONS,
    CONDITIONS,
    OPTIONS,
    PARAMETERS,
    POST_CONDITIONS,
    STAGE_OPTIONS,
    STEPS,
    SYMBOLS,
)
from jenkinsfile.expressions.methods import METHOD_NAMES
from jenkinsfile.expressions.parser import CallSite, find_calls, parse_expression
from jenkinsfile.steps.credentials import BINDINGS, USERNAME_BINDINGS, is_pass_through, missing_variables
from jenkinsfile.syntax.model import (
    Agent,
    Call,
    Expression,
    JenkinsfileError,
    Pipeline,
    Position,
    PostCondition,
    Stage,
    Variable,
    When,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

AGENTS = frozenset({"any", "none", "label", "node"})
MINIMUM_ARGUMENTS = {"branch": 1, "changeset": 1, "environment": 2, "equals": 2, "triggeredBy": 1}  # of conditions


@dataclass(frozen=True)
class CredentialUse:
    """A credential that the Jenkinsfile uses.

    `has_username`: whether it must be a username with password; None accepts a secret text as well.
    """

    identifier: str
    has_username: bool | None


@dataclass(frozen=True)
class ValidationResult:
    """The errors in the order of the file, and the credentials that the Jenkinsfile uses."""

    errors: list[JenkinsfileError]
    credentials: frozenset[CredentialUse]


def validate(pipeline: Pipeline, environment: Mapping[str, str], file: str = "Jenkinsfile") -> ValidationResult:
    """Check a whole pipeline for what a local run does not support, and for missing credentials."""
    validator = _Validator(environment, file)
    validator.pipeline(pipeline)
    errors = sorted(validator.errors, key=lambda error: error.position)
    return ValidationResult(errors, frozenset(validator.credentials))


class _Validator:
    """Visits the whole model and collects errors."""

    def __init__(self, environment: Mapping[str, str], file: str) -> None:
        self.environment = environment
        self.file = file
        self.errors: list[JenkinsfileError] = []
        self.credentials: set[CredentialUse] = set()

    def add_error(self, message: str, position: Position) -> None:
        self.errors.append(JenkinsfileError(message, position, self.file))

    def unsupported(self, element: str, position: Position) -> None:
        self.add_error(f"{element} is not supported by a local run; run it on a Jenkins controller", position)

    def pipeline(self, pipeline: Pipeline) -> None:
        for section in (pipeline.tools, pipeline.libraries):
            for call in section[:1]:
                self.unsupported(
                    f"the section '{'tools' if section is pipeline.tools else 'libraries'}'", call.position
                )
        self.agent(pipeline.agent)
        self.variables(pipeline.environment)
        self.options(pipeline.options, OPTIONS)
        for call in pipeline.parameters:
            self.arguments("parameter", call, PARAMETERS)
        self.post(pipeline.post)
        for stage in pipeline.stages:
            self.stage(stage)

    def stage(self, stage: Stage) -> None:
        if stage.agent:
            self.agent(stage.agent)
        if stage.tools:
            self.unsupported("the section 'tools'", stage.tools[0].position)
        if stage.matrix:
            self.unsupported("the section 'matrix'", stage.matrix.position)
            return
        self.variables(stage.environment)
        self.options(stage.options, {name: OPTIONS[name] for name in STAGE_OPTIONS})
        if stage.when:
            self.when(stage.when)
        if stage.input:
            for call in stage.input.parameters[:1]:
                self.unsupported("a parameter of 'input'", call.position)
            for call in stage.input.settings:
                if call.name not in STEPS["input"].arguments or len(call.arguments) != 1:
                    self.unsupported(f"the setting '{call.name}' of 'input'", call.position)
                self.expressions(call)
        self.steps(stage.steps or ())
        self.post(stage.post)
        for child in stage.children:
            self.stage(child)

    def agent(self, agent: Agent) -> None:
        if agent.kind not in AGENTS:
            self.unsupported(f"the agent '{agent.kind}'", agent.position)

    def variables(self, variables: Iterable[Variable]) -> None:
        for variable in variables:
            self.expression(variable.value, variable.name)

    def options(self, calls: Iterable[Call], signatures: Mapping[str, tuple[str, ...]]) -> None:
        for call in calls:
            self.arguments("option", call, signatures)

    def post(self, conditions: Iterable[PostCondition]) -> None:
        for condition in conditions:
            if condition.name not in POST_CONDITIONS:
                self.unsupported(f"the post condition '{condition.name}'", condition.position)
            self.steps(condition.steps)

    def when(self, when: When) -> None:
        if not when.conditions:
            self.add_error("'when' has no condition", when.position)
        for call in when.conditions:
            self.condition(call)

    def condition(self, call: Call) -> None:
        if call.name not in COMPOSITE_CONDITIONS:
            is_supported = self.arguments("when condition", call, CONDITIONS)
            minimum = MINIMUM_ARGUMENTS.get(call.name, 0)
            if is_supported and len(call.arguments) < minimum:
                names = " and ".join(CONDITIONS[call.name][:minimum])
                self.add_error(f"'{call.name}' takes {names}", call.position)
            if call.name == "expression" and call.code is None:
                self.add_error("'expression' takes its code in braces: expression { ... }", call.position)
            return
        children = call.body or ()
        if not children or (call.name == "not" and len(children) > 1):
            expected = "one condition" if call.name == "not" else "at least one condition"
            self.add_error(f"'{call.name}' takes {expected}", call.position)
        for child in children:
            self.condition(child)

    def steps(self, calls: Iterable[Call]) -> None:
        for call in calls:
            if call.name == "script" and call.code:
                self.script(call, call.code)
            elif self.arguments("step", call, {name: step.arguments for name, step in STEPS.items()}):
                takes_body = STEPS[call.name].body
                if takes_body != (call.body is not None):
                    article = "a" if takes_body else "no"
                    self.add_error(f"the step '{call.name}' takes {article} body in braces", call.position)
                if call.name == "checkout" and [argument.value.text for argument in call.arguments] != ["scm"]:
                    self.unsupported("'checkout' of anything but 'scm'", call.position)
                self.steps(call.body or ())

    def script(self, call: Call, code: Expression) -> None:
        """Accept a `script` block that holds one expression, such as `currentBuild.setDescription('…')`."""
        try:
            parse_expression(code)
        except JenkinsfileError:
            self.unsupported("a 'script' block of more than one expression", call.position)
        else:
            self.expression(code)

    def arguments(self, kind: str, call: Call, signatures: Mapping[str, tuple[str, ...]]) -> bool:
        """Check the name of a call and the names of its arguments. Returns whether the call is supported."""
        if call.name not in signatures:
            self.unsupported(f"the {kind} '{call.name}'", call.position)
            return False
        names = signatures[call.name]
        for argument in call.arguments:
            if argument.name and argument.name not in names:
                self.unsupported(f"the argument '{argument.name}' of the {kind} '{call.name}'", call.position)
        unnamed_count = sum(argument.name is None for argument in call.arguments)
        if unnamed_count > min(1, len(names)):
            count = "one" if names else "no"
            self.add_error(f"the {kind} '{call.name}' takes {count} unnamed argument", call.position)
        self.expressions(call)
        return True

    def expressions(self, call: Call) -> None:
        for argument in call.arguments:
            self.expression(argument.value)
        if call.code:
            self.expression(call.code)

    def expression(self, expression: Expression, variable: str = "") -> None:
        """Check an expression. `variable` is the variable of `environment {}` that it sets, if any."""
        try:
            calls = list(find_calls(expression))
        except JenkinsfileError as error:
            self.add_error(error.message, error.position)
            return
        for call in calls:
            if call.is_method:
                if call.name not in METHOD_NAMES:
                    self.unsupported(f"the method '{call.name}()'", call.position)
            elif call.name not in STEPS and call.name not in SYMBOLS:
                self.unsupported(f"the step '{call.name}'", call.position)
            else:
                for name in call.argument_names if call.name in STEPS else ():
                    if name not in STEPS[call.name].arguments:
                        self.unsupported(f"the argument '{name}' of the step '{call.name}'", call.position)
                self.credential(call, variable)

    def credential(self, call: CallSite, variable: str) -> None:
        identifier = call.literals.get("credentialsId" if call.name in BINDINGS else "")
        if identifier is None or call.name not in {*BINDINGS, "credentials"}:
            return
        has_username = None if call.name == "credentials" else call.name in USERNAME_BINDINGS
        self.credentials.add(CredentialUse(identifier, has_username))
        if is_pass_through(variable, identifier):
            return
        if names := missing_variables(identifier, self.environment, has_username=has_username):
            message = f"the credential '{identifier}' is missing: set {names} in the environment"
            self.add_error(message, call.position)
