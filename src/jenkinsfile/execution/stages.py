"""Stages: one after the other, nested, and side by side."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jenkinsfile.builds.context import Context, StageState
from jenkinsfile.builds.interruption import Interruption
from jenkinsfile.builds.results import InterruptedRunError, Result, StepError
from jenkinsfile.catalogue import OPTIONS
from jenkinsfile.execution import conditions
from jenkinsfile.execution.environment import with_declared
from jenkinsfile.execution.evaluation import evaluate, execute, named, perform
from jenkinsfile.execution.post import run_post
from jenkinsfile.steps.arguments import Given
from jenkinsfile.steps.control_flow import FAILURES, repeat, result_of, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jenkinsfile.syntax.model import Call, Input, Stage


@dataclass(frozen=True)
class Rules:
    """What the pipeline's options say about all its stages."""

    skip_after_unstable: bool = False
    fail_fast: bool = False


def run_stages(context: Context, stages: Iterable[Stage], rules: Rules) -> Exception | None:
    """Run stages in sequence and give what made one fail; those after it are skipped."""
    failure: Exception | None = None
    for stage in stages:
        if failure:
            context.say(f"stage {stage.name} skipped due to an earlier failure", "dim")
        elif rules.skip_after_unstable and context.build.result is Result.UNSTABLE:
            context.say(f"stage {stage.name} skipped: the build is unstable", "dim")
        else:
            failure = run_stage(context, stage, rules)
    return failure


def options(context: Context, calls: Iterable[Call]) -> dict[str, Given]:
    """Evaluate the arguments of options, by the option's name."""
    return {call.name: Given(call.name, named(context, call, OPTIONS[call.name])) for call in calls}


def run_stage(context: Context, stage: Stage, rules: Rules) -> Exception | None:
    """Run one stage with all it holds, set its result and the build's, and give what made it fail."""
    record, began = context.build.stages[stage.position], time.monotonic()
    context.console.banner(stage.name, context.label)
    inside = context.within(stage=StageState()).with_variables({"STAGE_NAME": stage.name})
    failure: Exception | None = None
    try:
        if not _with_options(inside, stage, rules):
            context.say(f"stage {stage.name} skipped: its conditions do not hold", "dim")
            return None
    except FAILURES as caught:
        failure = caught
        inside.stage.worsen(result_of(failure))
    record.result, record.seconds = inside.stage.result.name, round(time.monotonic() - began, 3)
    if not (isinstance(failure, InterruptedRunError) and not failure.counts):
        context.stage.worsen(inside.stage.result)
        if failure:
            context.build.worsen(result_of(failure))
    context.build.save()
    return failure


def _with_options(context: Context, stage: Stage, rules: Rules) -> bool:
    """Run a stage under its options; gives whether its conditions hold."""
    with told(context):
        if not _holds(context, stage, "beforeOptions"):
            return False
        given = options(context, stage.options)
        if "timeout" in given:
            context = context.within(interruption=Interruption(context.interruption, given["timeout"].seconds()))
        count = int(given["retry"].number("count")) if "retry" in given else 1
    return repeat(context, count, lambda: _attempt(context, stage, rules))


def _attempt(context: Context, stage: Stage, rules: Rules) -> bool:
    """Run a stage once, its `post` included; gives whether its conditions hold."""
    context.stage.result = Result.SUCCESS
    with told(context):
        if not _holds(context, stage, "beforeInput"):
            return False
        if stage.input:
            context = _asked(context, stage.input)
        context = with_declared(context, stage.environment)
        if not _holds(context, stage, None):
            return False
    failure = _body(context, stage, rules)
    if failure:
        context.stage.worsen(result_of(failure))
    if run_post(context, stage.post, lambda: context.stage.result) and not failure:
        failure = StepError(f"post of stage {stage.name} failed")
    if failure:
        raise failure
    return True


def _asked(context: Context, question: Input) -> Context:
    """Ask a stage's question; who approved is then in the variable that its `submitterParameter` names."""
    settings = {call.name: evaluate(context, call.arguments[0].value) for call in question.settings}
    person = perform(context, "input", settings)
    return context.with_variables({settings["submitterParameter"]: person}) if person else context


def _body(context: Context, stage: Stage, rules: Rules) -> Exception | None:
    """Run what a stage holds and give what failed in it."""
    if stage.parallel is not None:
        return _run_parallel(context, stage.parallel, rules, fail_fast=stage.fail_fast or rules.fail_fast)
    if stage.stages is not None:
        return run_stages(context, stage.stages, rules)
    try:
        with told(context):
            execute(context, stage.steps or ())
    except FAILURES as failure:
        return failure
    return None


def _holds(context: Context, stage: Stage, moment: str | None) -> bool:
    """Tell whether a stage's conditions hold, if this is when they are asked (None: just before its steps)."""
    if stage.when is None:
        return True
    asked = next((one for one in ("beforeOptions", "beforeInput") if one in stage.when.before), None)
    return asked != moment or conditions.hold(context, stage.when)


def _run_parallel(context: Context, stages: Sequence[Stage], rules: Rules, *, fail_fast: bool) -> Exception | None:
    """Run stages side by side and give the first failure; with `fail_fast` it ends the others."""
    scope = Interruption(context.interruption)
    failures: list[Exception] = []

    def branch(stage: Stage) -> None:
        inner = context.within(label=stage.name, interruption=scope)
        if failure := run_stage(inner, stage, rules):
            failures.append(failure)
            if fail_fast:
                scope.interrupt(InterruptedRunError(f"the parallel stage {stage.name} failed (failFast)", counts=False))

    with ThreadPoolExecutor(max_workers=len(stages)) as pool:
        for future in [pool.submit(branch, stage) for stage in stages]:
            future.result()
    return failures[0] if failures else None
