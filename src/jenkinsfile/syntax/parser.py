"""From the text of a Jenkinsfile to its model."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedInput, VisitError

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
from jenkinsfile.syntax.string_literals import content
from jenkinsfile.syntax.syntax_errors import complaint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lark.tree import Meta

GRAMMAR = Path(__file__).with_name("grammar.lark")
BEFORE = ("beforeAgent", "beforeInput", "beforeOptions")
BODIES = ("steps", "stages", "parallel", "matrix")

Section = tuple[str, Any, Position]
Item = TypeVar("Item")


def parse(text: str, file: str = "Jenkinsfile") -> Pipeline:
    """Read a declarative Jenkinsfile. Anything that is not one raises JenkinsfileError, with its line and column."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        pipeline: Pipeline = _Model(text).transform(_grammar().parse(text))
    except UnexpectedInput as error:
        raise JenkinsfileError(*complaint(error, text, _grammar()), file, column=True) from None
    except VisitError as error:
        if isinstance(error.orig_exc, JenkinsfileError):
            cause = error.orig_exc
            raise JenkinsfileError(cause.message, cause.position, file, column=True) from None
        raise
    return pipeline


@functools.cache
def _grammar() -> Lark:
    return Lark(GRAMMAR.read_text(), parser="lalr", propagate_positions=True, maybe_placeholders=False)


@v_args(meta=True)
class _Model(Transformer[Token, Pipeline]):
    """Builds the model from the leaves up; a method per rule of the grammar that carries meaning."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def start(self, _meta: Meta, children: list[Any]) -> Pipeline:
        return next(child for child in children if isinstance(child, Pipeline))

    def pipeline(self, meta: Meta, children: list[Any]) -> Pipeline:
        place, sections = _place(meta), _sections(children[1:], "pipeline")
        for required in ("agent", "stages"):
            if required not in sections:
                raise JenkinsfileError(f"the pipeline has no «{required}» section", place)
        return Pipeline(position=place, **sections)

    def stage(self, meta: Meta, children: list[Any]) -> Stage:
        place = _place(meta)
        if not children or not isinstance(children[0], Expression):
            raise JenkinsfileError("the stage has no name", place)
        name = content(children[0].text)
        sections = _sections(children[1:], f"stage «{name}»")
        found = [body for body in BODIES if body in sections]
        if len(found) != 1:
            has = f"has {' and '.join(f'«{one}»' for one in found)}" if found else "has no «steps»"
            raise JenkinsfileError(f"the stage «{name}» {has}: it takes one of {', '.join(BODIES)}", place)
        return Stage(name=name, position=place, **sections)

    def matrix(self, meta: Meta, children: list[Any]) -> Section:
        place, sections = _place(meta), _sections(children, "matrix")
        for required in ("axes", "stages"):
            if required not in sections:
                raise JenkinsfileError(f"the matrix has no «{required}» section", place)
        return "matrix", Matrix(position=place, **sections), place

    # ---- sections: each gives its name, its value and its place

    def agent(self, meta: Meta, children: list[Any]) -> Section:
        place = _place(meta)
        if all(isinstance(child, Call) for child in children) and children:
            return "agent", Agent(children[0].name, tuple(children), place), place
        arguments: list[Argument] = [child for child in children if isinstance(child, Argument)]
        if len(arguments) != 1:
            raise JenkinsfileError("the agent is not given", place)
        return "agent", Agent(arguments[0].name or arguments[0].value.text, (), place), place

    def environment(self, meta: Meta, children: list[Variable]) -> Section:
        return "environment", tuple(children), _place(meta)

    def options(self, meta: Meta, children: list[Call]) -> Section:
        return "options", tuple(children), _place(meta)

    def parameters(self, meta: Meta, children: list[Call]) -> Section:
        return "parameters", tuple(children), _place(meta)

    def triggers(self, meta: Meta, children: list[Call]) -> Section:
        return "triggers", tuple(children), _place(meta)

    def tools(self, meta: Meta, children: list[Call]) -> Section:
        return "tools", tuple(children), _place(meta)

    def libraries(self, meta: Meta, children: list[Call]) -> Section:
        return "libraries", tuple(children), _place(meta)

    def stages(self, meta: Meta, children: list[Stage]) -> Section:
        return "stages", _stages(children, _place(meta)), _place(meta)

    def parallel(self, meta: Meta, children: list[Stage]) -> Section:
        return "parallel", _stages(children, _place(meta)), _place(meta)

    def steps(self, meta: Meta, children: list[Call]) -> Section:
        return "steps", tuple(children), _place(meta)

    def post(self, meta: Meta, children: list[PostCondition]) -> Section:
        return "post", _once(children, "post"), _place(meta)

    def axes(self, meta: Meta, children: list[Axis]) -> Section:
        return "axes", tuple(children), _place(meta)

    def excludes(self, meta: Meta, children: list[tuple[Axis, ...]]) -> Section:
        return "excludes", tuple(children), _place(meta)

    def fail_fast(self, meta: Meta, children: list[Expression]) -> Section:
        return "fail_fast", children[0].text == "true", _place(meta)

    def when(self, meta: Meta, children: list[Call]) -> Section:
        before = frozenset(
            call.name for call in children if call.name in BEFORE and _texts(call) == ["true"] and call.body is None
        )
        conditions = tuple(call for call in children if call.name not in BEFORE)
        return "when", When(conditions, before, _place(meta)), _place(meta)

    def input(self, meta: Meta, children: list[Any]) -> Section:
        settings = tuple(child for child in children if isinstance(child, Call))
        parameters = [child[1] for child in children if not isinstance(child, Call)]
        return "input", Input(settings, parameters[0] if parameters else (), _place(meta)), _place(meta)

    # ---- what the sections hold

    def variable(self, meta: Meta, children: list[Any]) -> Variable:
        return Variable(str(children[0]), children[-1], _place(meta))

    def condition(self, meta: Meta, children: list[Any]) -> PostCondition:
        return PostCondition(str(children[0]), tuple(children[1:]), _place(meta))

    def axis(self, meta: Meta, children: list[Call]) -> Axis:
        return Axis(tuple(children), _place(meta))

    def exclude(self, _meta: Meta, children: list[Axis]) -> tuple[Axis, ...]:
        return tuple(children)

    def call(self, meta: Meta, children: list[Any]) -> Call:
        name, *rest = children
        arguments = tuple(child for child in rest if isinstance(child, Argument))
        body = next((child for child in rest if isinstance(child, tuple)), None)
        code = next((child for child in rest if isinstance(child, Expression)), None)
        return Call(str(name), _place(meta), arguments, body, code)

    def body(self, _meta: Meta, children: list[Call]) -> tuple[Call, ...]:
        return tuple(children)

    def argument(self, _meta: Meta, children: list[Any]) -> Argument:
        name = children[0].partition(":")[0].strip() if isinstance(children[0], Token) else None
        return Argument(name, children[-1])

    def value(self, meta: Meta, _children: list[Any]) -> Expression:
        return Expression(self.text[meta.start_pos : meta.end_pos].rstrip(), _place(meta))

    inside = value
    assigned = value

    def closure(self, meta: Meta, _children: list[Any]) -> Expression:
        return Expression(self.text[meta.start_pos + 1 : meta.end_pos - 1], _place(meta))


def _place(meta: Meta) -> Position:
    return Position(meta.line, meta.column)


def _texts(call: Call) -> list[str]:
    return [argument.value.text for argument in call.arguments]


def _sections(children: Iterable[Section], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value, place in children:
        if name in found:
            raise JenkinsfileError(f"the {where} has two «{name}» sections", place)
        found[name] = value
    return found


def _stages(stages: list[Stage], place: Position) -> tuple[Stage, ...]:
    if not stages:
        raise JenkinsfileError("no stage is given", place)
    return _once(stages, "stages")


def _once(items: list[Item], where: str) -> tuple[Item, ...]:
    seen = set()
    for item in items:
        name: str = item.name  # type: ignore[attr-defined]
        if name in seen:
            raise JenkinsfileError(f"«{name}» stands twice in «{where}»", item.position)  # type: ignore[attr-defined]
        seen.add(name)
    return tuple(items)
