"""A Jenkinsfile as the declarative plugin's own syntax tree, for which Jenkins has an official schema.

A controller gives this tree at /pipeline-model-converter/toJson. There it knows from its plugins what a step's only
unnamed argument is called; here that argument stays unnamed, which the schema allows as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lark import Token, Tree

from jenkinsfile.expressions.evaluator import evaluate
from jenkinsfile.expressions.parser import parse_expression
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
    PostCondition,
    Stage,
    Variable,
    When,
)

Node = dict[str, Any]

LITERALS = {"string", "number", "true", "false", "null"}


def syntax_tree(pipeline: Pipeline) -> Node:
    """Give the whole tree."""
    return {
        "pipeline": {
            "agent": agent(pipeline.agent),
            "stages": [stage(each) for each in pipeline.stages],
            **around(pipeline),
            **section("triggers", pipeline.triggers),
            **section("parameters", pipeline.parameters),
            **({"libraries": {"libraries": [*values(pipeline.libraries)]}} if pipeline.libraries else {}),
        }
    }


def around(place: Pipeline | Stage | Matrix) -> Node:
    """Give the sections that a pipeline, a stage and a matrix may have alike."""
    found: Node = section("options", place.options)
    if place.environment:
        found["environment"] = [*map(variable, place.environment)]
    if place.tools:
        found["tools"] = [{"key": call.name, "value": raw(call.arguments[0].value)} for call in place.tools]
    if place.post:
        found["post"] = {"conditions": [*map(condition, place.post)]}
    return found


def stage(given: Stage) -> Node:
    found: Node = {"name": given.name, **around(given), **within(given)}
    if given.fail_fast:
        found["failFast"] = True
    if given.steps is not None:
        found["branches"] = [branch(given.steps)]
    for way in ("stages", "parallel"):
        if inner := getattr(given, way):
            found[way] = [stage(each) for each in inner]
    if given.matrix:
        found["matrix"] = matrix(given.matrix)
    return found


def within(place: Stage | Matrix) -> Node:
    """Give the sections that only what stands inside of a pipeline may have."""
    found: Node = {}
    if place.agent:
        found["agent"] = agent(place.agent)
    if place.when:
        found["when"] = when(place.when)
    if place.input:
        found["input"] = question(place.input)
    return found


def matrix(given: Matrix) -> Node:
    excludes = {"excludes": [[axis(each) for each in exclude] for exclude in given.excludes]} if given.excludes else {}
    return {
        "axes": [axis(each) for each in given.axes],
        "stages": [stage(each) for each in given.stages],
        **excludes,
        **around(given),
        **within(given),
    }


def axis(given: Axis) -> Node:
    settings = {call.name: [*values([call])] for call in given.settings}
    found: Node = {"name": settings["name"][0]["value"], "values": settings.get("values") or settings["notValues"]}
    return found | {"inverse": True} if "notValues" in settings else found


def agent(given: Agent) -> Node:
    if not given.settings:
        return {"type": given.kind}
    (call,) = given.settings
    if call.body is None:
        return {"type": given.kind, "argument": raw(call.arguments[0].value)}
    return {"type": given.kind, "arguments": [{"key": one.name, "value": mapped(one)} for one in call.body]}


def mapped(call: Call) -> Any:
    if call.body is None:
        return raw(call.arguments[0].value)
    return [{"key": one.name, "value": mapped(one)} for one in call.body]


def variable(given: Variable) -> Node:
    called = as_call(given.value)
    if called and called["name"] == "credentials":
        return {"key": given.name, "value": called}
    return {"key": given.name, "value": raw(given.value)}


def condition(given: PostCondition) -> Node:
    return {"condition": given.name, "branch": branch(given.steps)}


def branch(steps: Iterable[Call]) -> Node:
    return {"name": "default", "steps": [*map(step, steps)]}


def when(given: When) -> Node:
    return {"conditions": [*map(step, given.conditions)], **dict.fromkeys(given.before, True)}


def question(given: Input) -> Node:
    settings = {call.name: raw(call.arguments[0].value) for call in given.settings}
    return settings | section("parameters", given.parameters, inner="parameters")


def step(call: Call) -> Node:
    """Give a step, or a condition, which has the same form."""
    if call.code:
        return {"name": call.name, "arguments": [{"key": "scriptBlock", "value": literal(call.code.text.strip())}]}
    children = {"children": [*map(step, call.body)]} if call.body is not None else {}
    if children and call.name in {"not", "allOf", "anyOf"}:
        return {"name": call.name, **children}
    return {"name": call.name, "arguments": arguments(call.arguments), **children}


def arguments(given: tuple[Argument, ...]) -> list[Node] | Node:
    if len(given) == 1 and given[0].name is None:
        return raw(given[0].value)
    return [{"key": one.name, "value": raw(one.value)} if one.name else raw(one.value) for one in given]


def section(name: str, calls: tuple[Call, ...], inner: str | None = None) -> Node:
    """Give a section of calls outside of steps: options, triggers, parameters."""
    return {name: {inner or name: [*map(method, calls)]}} if calls else {}


def method(call: Call) -> Node:
    given = [(one.name, as_call(one.value) or raw(one.value)) for one in call.arguments]
    return {"name": call.name, "arguments": [{"key": name, "value": value} if name else value for name, value in given]}


def as_call(expression: Expression) -> Node | None:
    """Give an expression that calls something by its name, such as `logRotator(numToKeepStr: '5')`."""
    root = parsed(expression)
    if root is None or root.data != "command":
        return None
    name, *rest = root.children
    found = []
    for child in rest[0].children if rest and isinstance(rest[0], Tree) else ():
        named = isinstance(child, Tree) and child.data == "named_argument"
        key, value = child.children if named else (None, child)
        inner = Expression(source(expression, value), expression.position)
        given = as_call(inner) or raw(inner)
        found.append({"key": str(key).rstrip(": "), "value": given} if named else given)
    return {"name": str(name), "arguments": found}


def source(expression: Expression, part: Tree[Token] | Token) -> str:
    if isinstance(part, Token):
        return expression.text[part.start_pos : part.end_pos]
    return expression.text[part.meta.start_pos : part.meta.end_pos]


def values(calls: Iterable[Call]) -> Iterator[Node]:
    for call in calls:
        yield from (raw(one.value) for one in call.arguments)


def raw(expression: Expression) -> Node:
    """Give a value: as what it is if it is a literal, else as its source text in a GString."""
    root = parsed(expression)
    if root is not None and (root.data in LITERALS or (root.data == "gstring" and "$" not in expression.text)):
        return literal(evaluate(expression, scope=None))  # type: ignore[arg-type] - a literal needs no scope
    is_gstring = expression.text.startswith('"') and (root is None or root.data == "gstring")
    return {"isLiteral": False, "value": expression.text if is_gstring else f"${{{expression.text}}}"}


def literal(value: str | float | bool | None) -> Node:
    return {"isLiteral": True, "value": value}


def parsed(expression: Expression) -> Tree[Token] | None:
    """Read an expression; None if it is more than our grammar has, such as a closure."""
    try:
        root = parse_expression(expression).children[0]
    except JenkinsfileError:
        return None
    return root if isinstance(root, Tree) else None
