"""A Jenkinsfile as the syntax tree of the declarative plugin, for which Jenkins has an official schema.

A controller returns this tree at /pipeline-model-converter/toJson. There the plugins know the name of a step's only
unnamed argument; here it stays unnamed, which the schema allows too.
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
    """Return the whole tree."""
    return {
        "pipeline": {
            "agent": agent_node(pipeline.agent),
            "stages": [stage_node(child) for child in pipeline.stages],
            **common_sections(pipeline),
            **section("triggers", pipeline.triggers),
            **section("parameters", pipeline.parameters),
            **({"libraries": {"libraries": [*values(pipeline.libraries)]}} if pipeline.libraries else {}),
        }
    }


def common_sections(place: Pipeline | Stage | Matrix) -> Node:
    """Return the sections that a pipeline, a stage and a matrix can have."""
    node: Node = section("options", place.options)
    if place.environment:
        node["environment"] = [*map(variable_node, place.environment)]
    if place.tools:
        node["tools"] = [{"key": call.name, "value": raw(call.arguments[0].value)} for call in place.tools]
    if place.post:
        node["post"] = {"conditions": [*map(condition_node, place.post)]}
    return node


def stage_node(stage: Stage) -> Node:
    node: Node = {"name": stage.name, **common_sections(stage), **stage_sections(stage)}
    if stage.fail_fast:
        node["failFast"] = True
    if stage.steps is not None:
        node["branches"] = [branch(stage.steps)]
    for name in ("stages", "parallel"):
        if children := getattr(stage, name):
            node[name] = [stage_node(child) for child in children]
    if stage.matrix:
        node["matrix"] = matrix_node(stage.matrix)
    return node


def stage_sections(place: Stage | Matrix) -> Node:
    """Return the sections that a stage and a matrix can have."""
    node: Node = {}
    if place.agent:
        node["agent"] = agent_node(place.agent)
    if place.when:
        node["when"] = when_node(place.when)
    if place.input:
        node["input"] = input_node(place.input)
    return node


def matrix_node(matrix: Matrix) -> Node:
    excludes = [[axis_node(axis) for axis in exclude] for exclude in matrix.excludes]
    return {
        "axes": [axis_node(axis) for axis in matrix.axes],
        "stages": [stage_node(stage) for stage in matrix.stages],
        **({"excludes": excludes} if excludes else {}),
        **common_sections(matrix),
        **stage_sections(matrix),
    }


def axis_node(axis: Axis) -> Node:
    settings = {call.name: [*values([call])] for call in axis.settings}
    node: Node = {"name": settings["name"][0]["value"], "values": settings.get("values") or settings["notValues"]}
    return node | {"inverse": True} if "notValues" in settings else node


def agent_node(agent: Agent) -> Node:
    if not agent.settings:
        return {"type": agent.kind}
    (call,) = agent.settings
    if call.body is None:
        return {"type": agent.kind, "argument": raw(call.arguments[0].value)}
    return {"type": agent.kind, "arguments": settings(call.body)}


def settings(calls: Iterable[Call]) -> list[Node]:
    """Return nested settings as keys with their values."""
    return [
        {"key": call.name, "value": raw(call.arguments[0].value) if call.body is None else settings(call.body)}
        for call in calls
    ]


def variable_node(variable: Variable) -> Node:
    call = as_call(variable.value)
    if call and call["name"] == "credentials":
        return {"key": variable.name, "value": call}
    return {"key": variable.name, "value": raw(variable.value)}


def condition_node(condition: PostCondition) -> Node:
    return {"condition": condition.name, "branch": branch(condition.steps)}


def branch(steps: Iterable[Call]) -> Node:
    return {"name": "default", "steps": [*map(step_node, steps)]}


def when_node(when: When) -> Node:
    return {"conditions": [*map(step_node, when.conditions)], **dict.fromkeys(when.before, True)}


def input_node(input_: Input) -> Node:
    node = {call.name: raw(call.arguments[0].value) for call in input_.settings}
    return node | section("parameters", input_.parameters, inner="parameters")


def step_node(call: Call) -> Node:
    """Return a step, or a condition, which has the same form."""
    if call.code:
        return {"name": call.name, "arguments": [{"key": "scriptBlock", "value": literal(call.code.text.strip())}]}
    children = {"children": [*map(step_node, call.body)]} if call.body is not None else {}
    if children and call.name in {"not", "allOf", "anyOf"}:
        return {"name": call.name, **children}
    return {"name": call.name, "arguments": argument_nodes(call.arguments), **children}


def argument_nodes(arguments: tuple[Argument, ...]) -> list[Node] | Node:
    if len(arguments) == 1 and arguments[0].name is None:
        return raw(arguments[0].value)
    return [{"key": item.name, "value": raw(item.value)} if item.name else raw(item.value) for item in arguments]


def section(name: str, calls: tuple[Call, ...], inner: str | None = None) -> Node:
    """Return a section of calls outside of steps: options, triggers, parameters."""
    return {name: {inner or name: [*map(method, calls)]}} if calls else {}


def method(call: Call) -> Node:
    arguments = [(item.name, as_call(item.value) or raw(item.value)) for item in call.arguments]
    nodes = [{"key": name, "value": value} if name else value for name, value in arguments]
    return {"name": call.name, "arguments": nodes}


def as_call(expression: Expression) -> Node | None:
    """Return an expression that is a call, such as `logRotator(numToKeepStr: '5')`."""
    root = try_parse(expression)
    if root is None or root.data != "command":
        return None
    name, *rest = root.children
    arguments = []
    for child in rest[0].children if rest and isinstance(rest[0], Tree) else ():
        has_name = isinstance(child, Tree) and child.data == "named_argument"
        key, value = child.children if has_name else (None, child)
        inner = Expression(source(expression, value), expression.position)
        argument = as_call(inner) or raw(inner)
        arguments.append({"key": str(key).rstrip(": "), "value": argument} if has_name else argument)
    return {"name": str(name), "arguments": arguments}


def source(expression: Expression, part: Tree[Token] | Token) -> str:
    if isinstance(part, Token):
        return expression.text[part.start_pos : part.end_pos]
    return expression.text[part.meta.start_pos : part.meta.end_pos]


def values(calls: Iterable[Call]) -> Iterator[Node]:
    for call in calls:
        yield from (raw(argument.value) for argument in call.arguments)


def raw(expression: Expression) -> Node:
    """Return a value: a literal as such, any other as its source text in a GString."""
    root = try_parse(expression)
    if root is not None and (root.data in LITERALS or (root.data == "gstring" and "$" not in expression.text)):
        return literal(evaluate(expression, scope=None))  # type: ignore[arg-type] - a literal needs no scope
    is_gstring = expression.text.startswith('"') and (root is None or root.data == "gstring")
    return {"isLiteral": False, "value": expression.text if is_gstring else f"${{{expression.text}}}"}


def literal(value: str | float | bool | None) -> Node:
    return {"isLiteral": True, "value": value}


def try_parse(expression: Expression) -> Tree[Token] | None:
    """Parse an expression; None if the grammar does not support it, such as a closure."""
    try:
        root = parse_expression(expression).children[0]
    except JenkinsfileError:
        return None
    return root if isinstance(root, Tree) else None
