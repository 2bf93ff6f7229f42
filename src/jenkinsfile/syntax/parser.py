"""Parses the text of a Jenkinsfile into its model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lark import Token, Transformer, v_args
from lark.exceptions import UnexpectedInput, VisitError

from jenkinsfile.syntax.grammar import load_grammar
from jenkinsfile.syntax.model import (
    Agent,
    Argument,
    Axis,
    Call,
    Expression,
    Input,
    JenkinsfileError,
    Matrix,
    Pipeline,
    Position,
    PostCondition,
    Stage,
    Variable,
    When,
)
from jenkinsfile.syntax.strings import unquote
from jenkinsfile.syntax.syntax_errors import describe_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lark.tree import Meta

GRAMMAR = Path(__file__).with_name("grammar.lark")
BEFORE_OPTIONS = ("beforeAgent", "beforeInput", "beforeOptions")
STAGE_BODIES = ("steps", "stages", "parallel", "matrix")

Section = tuple[str, Any, Position]
Item = TypeVar("Item")


def parse(text: str, file: str = "Jenkinsfile") -> Pipeline:
    """Parse a declarative Jenkinsfile. Raises JenkinsfileError with line and column if it is not one."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    grammar = load_grammar(GRAMMAR)
    try:
        pipeline: Pipeline = _ModelBuilder(text).transform(grammar.parse(text))
    except UnexpectedInput as error:
        raise JenkinsfileError(*describe_error(error, text, grammar), file, column=True) from None
    except VisitError as error:
        if isinstance(error.orig_exc, JenkinsfileError):
            cause = error.orig_exc
            raise JenkinsfileError(cause.message, cause.position, file, column=True) from None
        raise
    return pipeline


@v_args(meta=True)
class _ModelBuilder(Transformer[Token, Pipeline]):
    """Builds the model from the leaves up. Each method is named after a rule of the grammar."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def start(self, _meta: Meta, children: list[Any]) -> Pipeline:
        return next(child for child in children if isinstance(child, Pipeline))

    def pipeline(self, meta: Meta, children: list[Any]) -> Pipeline:
        position, sections = _position(meta), _sections(children[1:], "pipeline")
        for required in ("agent", "stages"):
            if required not in sections:
                raise JenkinsfileError(f"the pipeline has no '{required}' section", position)
        return Pipeline(position=position, **sections)

    def stage(self, meta: Meta, children: list[Any]) -> Stage:
        position = _position(meta)
        if not children or not isinstance(children[0], Expression):
            raise JenkinsfileError("the stage has no name", position)
        name = unquote(children[0].text)
        sections = _sections(children[1:], f"stage '{name}'")
        bodies = [body for body in STAGE_BODIES if body in sections]
        if len(bodies) != 1:
            problem = f"has {' and '.join(map(repr, bodies))}" if bodies else "has no 'steps'"
            expected = ", ".join(STAGE_BODIES)
            raise JenkinsfileError(f"the stage '{name}' {problem}; write exactly one of {expected}", position)
        return Stage(name=name, position=position, **sections)

    def matrix(self, meta: Meta, children: list[Any]) -> Section:
        position, sections = _position(meta), _sections(children, "matrix")
        for required in ("axes", "stages"):
            if required not in sections:
                raise JenkinsfileError(f"the matrix has no '{required}' section", position)
        return "matrix", Matrix(position=position, **sections), position

    # ---- sections: each returns its name, its value and its position

    def agent(self, meta: Meta, children: list[Any]) -> Section:
        position = _position(meta)
        if all(isinstance(child, Call) for child in children) and children:
            return "agent", Agent(children[0].name, tuple(children), position), position
        arguments: list[Argument] = [child for child in children if isinstance(child, Argument)]
        if len(arguments) != 1:
            raise JenkinsfileError("the agent is missing; write for example 'agent any'", position)
        return "agent", Agent(arguments[0].name or arguments[0].value.text, (), position), position

    def environment(self, meta: Meta, children: list[Variable]) -> Section:
        return "environment", tuple(children), _position(meta)

    def options(self, meta: Meta, children: list[Call]) -> Section:
        return "options", tuple(children), _position(meta)

    def parameters(self, meta: Meta, children: list[Call]) -> Section:
        return "parameters", tuple(children), _position(meta)

    def triggers(self, meta: Meta, children: list[Call]) -> Section:
        return "triggers", tuple(children), _position(meta)

    def tools(self, meta: Meta, children: list[Call]) -> Section:
        return "tools", tuple(children), _position(meta)

    def libraries(self, meta: Meta, children: list[Call]) -> Section:
        return "libraries", tuple(children), _position(meta)

    def stages(self, meta: Meta, children: list[Stage]) -> Section:
        return "stages", _stages(children, _position(meta)), _position(meta)

    def parallel(self, meta: Meta, children: list[Stage]) -> Section:
        return "parallel", _stages(children, _position(meta)), _position(meta)

    def steps(self, meta: Meta, children: list[Call]) -> Section:
        return "steps", tuple(children), _position(meta)

    def post(self, meta: Meta, children: list[PostCondition]) -> Section:
        return "post", _unique(children, "post"), _position(meta)

    def axes(self, meta: Meta, children: list[Axis]) -> Section:
        return "axes", tuple(children), _position(meta)

    def excludes(self, meta: Meta, children: list[tuple[Axis, ...]]) -> Section:
        return "excludes", tuple(children), _position(meta)

    def fail_fast(self, meta: Meta, children: list[Expression]) -> Section:
        return "fail_fast", children[0].text == "true", _position(meta)

    def when(self, meta: Meta, children: list[Call]) -> Section:
        before = frozenset(
            call.name
            for call in children
            if call.name in BEFORE_OPTIONS and _argument_texts(call) == ["true"] and call.body is None
        )
        conditions = tuple(call for call in children if call.name not in BEFORE_OPTIONS)
        return "when", When(conditions, before, _position(meta)), _position(meta)

    def input(self, meta: Meta, children: list[Any]) -> Section:
        settings = tuple(child for child in children if isinstance(child, Call))
        parameters = [child[1] for child in children if not isinstance(child, Call)]
        return "input", Input(settings, parameters[0] if parameters else (), _position(meta)), _position(meta)

    # ---- elements of sections

    def variable(self, meta: Meta, children: list[Any]) -> Variable:
        return Variable(str(children[0]), children[-1], _position(meta))

    def condition(self, meta: Meta, children: list[Any]) -> PostCondition:
        return PostCondition(str(children[0]), tuple(children[1:]), _position(meta))

    def axis(self, meta: Meta, children: list[Call]) -> Axis:
        return Axis(tuple(children), _position(meta))

    def exclude(self, _meta: Meta, children: list[Axis]) -> tuple[Axis, ...]:
        return tuple(children)

    def call(self, meta: Meta, children: list[Any]) -> Call:
        name, *rest = children
        arguments = tuple(child for child in rest if isinstance(child, Argument))
        body = next((child for child in rest if isinstance(child, tuple)), None)
        code = next((child for child in rest if isinstance(child, Expression)), None)
        return Call(str(name), _position(meta), arguments, body, code)

    def body(self, _meta: Meta, children: list[Call]) -> tuple[Call, ...]:
        return tuple(children)

    def argument(self, _meta: Meta, children: list[Any]) -> Argument:
        name = children[0].partition(":")[0].strip() if isinstance(children[0], Token) else None
        return Argument(name, children[-1])

    def value(self, meta: Meta, _children: list[Any]) -> Expression:
        return Expression(self.text[meta.start_pos : meta.end_pos].rstrip(), _position(meta))

    inner_value = value
    assignment_value = value

    def closure(self, meta: Meta, _children: list[Any]) -> Expression:
        return Expression(self.text[meta.start_pos + 1 : meta.end_pos - 1], _position(meta))


def _position(meta: Meta) -> Position:
    return Position(meta.line, meta.column)


def _argument_texts(call: Call) -> list[str]:
    return [argument.value.text for argument in call.arguments]


def _sections(children: Iterable[Section], parent: str) -> dict[str, Any]:
    sections: dict[str, Any] = {}
    for name, value, position in children:
        if name in sections:
            raise JenkinsfileError(f"the {parent} has two '{name}' sections; merge them", position)
        sections[name] = value
    return sections


def _stages(stages: list[Stage], position: Position) -> tuple[Stage, ...]:
    if not stages:
        raise JenkinsfileError("there is no stage; write stage('Name') { steps { ... } }", position)
    return _unique(stages, "stages")


def _unique(items: list[Item], section: str) -> tuple[Item, ...]:
    names = set()
    for item in items:
        name: str = item.name  # type: ignore[attr-defined]
        if name in names:
            raise JenkinsfileError(f"'{name}' occurs twice in '{section}'", item.position)  # type: ignore[attr-defined]
        names.add(name)
    return tuple(items)
