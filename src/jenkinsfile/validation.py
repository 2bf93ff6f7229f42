"""What a Jenkinsfile asks for and a local run cannot do, found before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jenkinsfile.catalogue import (
    CONDITIONS,
    CONDITIONS_OF_CONDITIONS,
    OPTIONS,
    PARAMETERS,
    POST,
    STAGE_OPTIONS,
    STEPS,
    SYMBOLS,
)
from jenkinsfile.expressions.evaluator import Use, read, uses
from jenkinsfile.expressions.methods import KNOWN
from jenkinsfile.steps import credentials
from jenkinsfile.steps.credentials import BINDINGS, PAIRS
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
NEEDED = {"branch": 1, "changeset": 1, "environment": 2, "equals": 2, "triggeredBy": 1}  # arguments of a condition


@dataclass(frozen=True)
class Findings:
    """Why not to run (in the order of the file), and the ids of the credentials that are used.

    With each id stands whether a user with a password is wanted; None takes a text too.
    """

    refusals: list[JenkinsfileError]
    credentials: set[tuple[str, bool | None]]


def examine(pipeline: Pipeline, environment: Mapping[str, str], file: str = "Jenkinsfile") -> Findings:
    """Look through a whole pipeline for what a local run cannot do, credentials that are not there included."""
    finder = _Finder(environment, file)
    finder.pipeline(pipeline)
    return Findings(sorted(finder.found, key=lambda error: error.position), finder.identifiers)


class _Finder:
    """Walks the whole model and collects."""

    def __init__(self, environment: Mapping[str, str], file: str) -> None:
        self.environment = environment
        self.file = file
        self.found: list[JenkinsfileError] = []
        self.identifiers: set[tuple[str, bool | None]] = set()

    def refuse(self, message: str, position: Position) -> None:
        self.found.append(JenkinsfileError(message, position, self.file))

    def unsupported(self, what: str, position: Position) -> None:
        self.refuse(f"{what} is not supported by ct run; a Jenkins controller can run it", position)

    def pipeline(self, pipeline: Pipeline) -> None:
        for section in (pipeline.tools, pipeline.libraries):
            for call in section[:1]:
                self.unsupported(
                    f"the section «{'tools' if section is pipeline.tools else 'libraries'}»", call.position
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
            self.unsupported("the section «tools»", stage.tools[0].position)
        if stage.matrix:
            self.unsupported("the section «matrix»", stage.matrix.position)
            return
        self.variables(stage.environment)
        self.options(stage.options, {name: OPTIONS[name] for name in STAGE_OPTIONS})
        if stage.when:
            self.when(stage.when)
        if stage.input:
            for call in stage.input.parameters[:1]:
                self.unsupported("a parameter of «input»", call.position)
            for call in stage.input.settings:
                if call.name not in STEPS["input"].arguments or len(call.arguments) != 1:
                    self.unsupported(f"the setting «{call.name}» of «input»", call.position)
                self.expressions(call)
        self.steps(stage.steps or ())
        self.post(stage.post)
        for child in stage.children:
            self.stage(child)

    def agent(self, agent: Agent) -> None:
        if agent.kind not in AGENTS:
            self.unsupported(f"the agent «{agent.kind}»", agent.position)

    def variables(self, variables: Iterable[Variable]) -> None:
        for variable in variables:
            self.expression(variable.value, variable.name)

    def options(self, calls: Iterable[Call], known: Mapping[str, tuple[str, ...]]) -> None:
        for call in calls:
            self.arguments("option", call, known)

    def post(self, conditions: Iterable[PostCondition]) -> None:
        for condition in conditions:
            if condition.name not in POST:
                self.unsupported(f"the post condition «{condition.name}»", condition.position)
            self.steps(condition.steps)

    def when(self, when: When) -> None:
        if not when.conditions:
            self.refuse("«when» has no condition", when.position)
        for call in when.conditions:
            self.condition(call)

    def condition(self, call: Call) -> None:
        if call.name not in CONDITIONS_OF_CONDITIONS:
            known = self.arguments("when condition", call, CONDITIONS)
            if known and len(call.arguments) < NEEDED.get(call.name, 0):
                self.refuse(f"«{call.name}» takes {' and '.join(CONDITIONS[call.name][:2])}", call.position)
            if call.name == "expression" and call.code is None:
                self.refuse("«expression» takes its code in braces", call.position)
            return
        children = call.body or ()
        if not children or (call.name == "not" and len(children) > 1):
            wanted = "one condition" if call.name == "not" else "at least one condition"
            self.refuse(f"«{call.name}» takes {wanted}", call.position)
        for child in children:
            self.condition(child)

    def steps(self, calls: Iterable[Call]) -> None:
        for call in calls:
            if call.name == "script" and call.code:
                self.script(call, call.code)
            elif self.arguments("step", call, {name: step.arguments for name, step in STEPS.items()}):
                takes = STEPS[call.name].body
                if takes != (call.body is not None):
                    self.refuse(f"the step «{call.name}» takes {'a' if takes else 'no'} body in braces", call.position)
                if call.name == "checkout" and [one.value.text for one in call.arguments] != ["scm"]:
                    self.unsupported("«checkout» of anything but «scm»", call.position)
                self.steps(call.body or ())

    def script(self, call: Call, code: Expression) -> None:
        """Accept a `script` block that holds one expression, such as `currentBuild.setDescription('…')`."""
        try:
            read(code)
        except JenkinsfileError:
            self.unsupported("a «script» block of more than one expression", call.position)
        else:
            self.expression(code)

    def arguments(self, kind: str, call: Call, known: Mapping[str, tuple[str, ...]]) -> bool:
        """Check the name of a call and those of its arguments; gives whether the name is known."""
        if call.name not in known:
            self.unsupported(f"the {kind} «{call.name}»", call.position)
            return False
        allowed = known[call.name]
        for argument in call.arguments:
            if argument.name and argument.name not in allowed:
                self.unsupported(f"the argument «{argument.name}» of the {kind} «{call.name}»", call.position)
        unnamed = sum(argument.name is None for argument in call.arguments)
        if unnamed > min(1, len(allowed)):
            self.refuse(f"the {kind} «{call.name}» takes {'one' if allowed else 'no'} unnamed argument", call.position)
        self.expressions(call)
        return True

    def expressions(self, call: Call) -> None:
        for argument in call.arguments:
            self.expression(argument.value)
        if call.code:
            self.expression(call.code)

    def expression(self, expression: Expression, into: str = "") -> None:
        """Look through an expression; `into` is the variable of `environment {}` whose value it is, if it is one's."""
        try:
            used = list(uses(expression))
        except JenkinsfileError as error:
            self.refuse(error.message, error.position)
            return
        for use in used:
            if use.method:
                if use.name not in KNOWN:
                    self.unsupported(f"the method «{use.name}()»", use.position)
            elif use.name not in STEPS and use.name not in SYMBOLS:
                self.unsupported(f"the step «{use.name}»", use.position)
            else:
                for name in use.named if use.name in STEPS else ():
                    if name not in STEPS[use.name].arguments:
                        self.unsupported(f"the argument «{name}» of the step «{use.name}»", use.position)
                self.credential(use, into)

    def credential(self, use: Use, into: str) -> None:
        identifier = use.literals.get("credentialsId" if use.name in BINDINGS else "")
        if identifier is None or use.name not in {*BINDINGS, "credentials"}:
            return
        pair = None if use.name == "credentials" else use.name in PAIRS
        self.identifiers.add((identifier, pair))
        if credentials.passes_on(into, identifier):
            return
        if wanted := credentials.missing(identifier, self.environment, pair=pair):
            self.refuse(f"the credential «{identifier}» is missing: set {wanted} in the environment", use.position)
