"""`ct run --list`: what a Jenkinsfile would do, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jenkinsfile import parameters
from jenkinsfile.builds.masking import MASK
from jenkinsfile.expressions.values import text
from jenkinsfile.syntax.string_literals import content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jenkinsfile.syntax.model import Argument, Call, Pipeline, PostCondition, Stage

WIDTH = 110


def listing(pipeline: Pipeline) -> Iterator[str]:
    """Give the lines: parameters with their defaults, then the stages with their conditions and steps."""
    yield "parameters:"
    for parameter in parameters.declared(pipeline.parameters):
        default = MASK if parameter.secret else text(parameter.default)
        choices = f"  one of {', '.join(parameter.choices)}" if parameter.choices else ""
        yield f"  {parameter.name}={default}{choices}  {parameter.description}".rstrip()
    yield "stages:"
    for stage in pipeline.stages:
        yield from _stage(stage, "  ")
    yield from _post(pipeline.post, "")


def _stage(stage: Stage, indent: str) -> Iterator[str]:
    how = "  (parallel)" if stage.parallel else ""
    yield f"{indent}{stage.name}{how}"
    inner = indent + "  "
    for condition in stage.when.conditions if stage.when else ():
        yield f"{inner}when {_call(condition)}"
    for setting in stage.input.settings if stage.input else ():
        if setting.name == "message":
            yield f"{inner}asks {_call(setting)}"
    yield from _steps(stage.steps or (), inner)
    for child in stage.children:
        yield from _stage(child, inner)
    yield from _post(stage.post, inner)


def _post(conditions: Iterable[PostCondition], indent: str) -> Iterator[str]:
    for condition in conditions:
        yield f"{indent}post {condition.name}:"
        yield from _steps(condition.steps, indent + "  ")


def _steps(calls: Iterable[Call], indent: str) -> Iterator[str]:
    for call in calls:
        yield indent + _call(call, nested=False)
        yield from _steps(call.body or (), indent + "  ")


def _call(call: Call, *, nested: bool = True) -> str:
    parts = [call.name, ", ".join(map(_argument, call.arguments))]
    if call.code:
        parts.append(f"{{ {' '.join(call.code.text.split())} }}")
    if nested and call.body:
        parts.append(f"{{ {'; '.join(map(_call, call.body))} }}")
    shown = " ".join(part for part in parts if part)
    return shown if len(shown) <= WIDTH else shown[: WIDTH - 1] + "…"


def _argument(argument: Argument) -> str:
    value = " ".join(content(argument.value.text).split())
    return f"{argument.name}: {value}" if argument.name else value
