"""Lists the parameters, stages and steps of a Jenkinsfile without running them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jenkinsfile.builds.masking import MASK
from jenkinsfile.expressions.values import to_string
from jenkinsfile.parameters import read_parameters
from jenkinsfile.syntax.strings import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jenkinsfile.syntax.model import Argument, Call, Pipeline, PostCondition, Stage

MAXIMUM_WIDTH = 110


def list_pipeline(pipeline: Pipeline) -> Iterator[str]:
    """Yield lines: the parameters with their defaults, then the stages with their conditions and steps."""
    yield "parameters:"
    for parameter in read_parameters(pipeline.parameters):
        default = MASK if parameter.is_secret else to_string(parameter.default)
        choices = f"  one of {parameter.choice_list}" if parameter.choices else ""
        yield f"  {parameter.name}={default}{choices}  {parameter.description}".rstrip()
    yield "stages:"
    for stage in pipeline.stages:
        yield from _stage(stage, "  ")
    yield from _post(pipeline.post, "")


def _stage(stage: Stage, indent: str) -> Iterator[str]:
    suffix = "  (parallel)" if stage.parallel else ""
    yield f"{indent}{stage.name}{suffix}"
    inner_indent = indent + "  "
    for condition in stage.when.conditions if stage.when else ():
        yield f"{inner_indent}when {_call(condition)}"
    for setting in stage.input.settings if stage.input else ():
        if setting.name == "message":
            yield f"{inner_indent}input {_call(setting)}"
    yield from _steps(stage.steps or (), inner_indent)
    for child in stage.children:
        yield from _stage(child, inner_indent)
    yield from _post(stage.post, inner_indent)


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
    line = " ".join(part for part in parts if part)
    return line if len(line) <= MAXIMUM_WIDTH else line[: MAXIMUM_WIDTH - 1] + "…"


def _argument(argument: Argument) -> str:
    value = " ".join(unquote(argument.value.text).split())
    return f"{argument.name}: {value}" if argument.name else value
