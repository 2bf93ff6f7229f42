"""Runs stages: in sequence, nested, and in parallel."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jenkinsfile.builds.context import Context, StageState
from jenkinsfile.builds.failures import FAILURES, failure_result, log_failures
from jenkinsfile.builds.interruption import Interruption
from jenkinsfile.builds.results import InterruptedRunError, Result, StepError
from jenkinsfile.catalogue import OPTIONS
from jenkinsfile.execution.conditions import evaluate_when
from jenkinsfile.execution.environment import add_variables
from jenkinsfile.execution.evaluation import evaluate, evaluate_arguments, run_step, run_steps
from jenkinsfile.execution.post import run_post
from jenkinsfile.steps.arguments import StepArguments
from jenkinsfile.steps.control_flow import repeat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jenkinsfile.syntax.model import Call, Input, Stage


@dataclass(frozen=True)
class StagePolicy:
    """The options of the pipeline that apply to all its stages."""

    skip_after_unstable: bool = False
    fail_fast: bool = False


def run_stages(context: Context, stages: Iterable[Stage], policy: StagePolicy) -> Exception | None:
    """Run stages in sequence. Returns the failure of one; the stages after it are skipped."""
    failure: Exception | None = None
    for stage in stages:
        if failure:
            skip_stage(context, stage, "failure", "skipped due to an earlier failure")
        elif policy.skip_after_unstable and context.build.result is Result.UNSTABLE:
            skip_stage(context, stage, "unstable", "skipped: the build is unstable")
        else:
            failure = run_stage(context, stage, policy)
    return failure


def skip_stage(context: Context, stage: Stage, reason: str, message: str) -> None:
    """Record and log that a stage does not run."""
    context.build.stages[stage.position].skip_reason = reason
    context.log(f"stage {stage.name} {message}", "dim")


def evaluate_options(context: Context, calls: Iterable[Call]) -> dict[str, StepArguments]:
    """Evaluate the arguments of options, by the name of the option."""
    return {
        call.name: StepArguments(call.name, evaluate_arguments(context, call, OPTIONS[call.name])) for call in calls
    }


def run_stage(context: Context, stage: Stage, policy: StagePolicy) -> Exception | None:
    """Run one stage, set its result and that of the build, and return its failure, if any."""
    record, start_time = context.build.stages[stage.position], time.monotonic()
    record.skip_reason = None
    context.console.stage_header(stage.name, context.label)
    stage_context = context.replace(stage=StageState()).with_variables({"STAGE_NAME": stage.name})
    failure: Exception | None = None
    try:
        if not _run_with_options(stage_context, stage, policy):
            skip_stage(context, stage, "condition", "skipped: its conditions do not hold")
            return None
    except FAILURES as error:
        failure = error
        stage_context.stage.worsen(failure_result(failure))
    record.result, record.seconds = stage_context.stage.result.name, round(time.monotonic() - start_time, 3)
    if not (isinstance(failure, InterruptedRunError) and not failure.affects_result):
        context.stage.worsen(stage_context.stage.result)
        if failure:
            context.build.worsen(failure_result(failure))
    context.build.save()
    return failure


def _run_with_options(context: Context, stage: Stage, policy: StagePolicy) -> bool:
    """Run a stage with its options. Returns whether its conditions hold."""
    with log_failures(context):
        if not _conditions_hold(context, stage, "beforeOptions"):
            return False
        options = evaluate_options(context, stage.options)
        if "timeout" in options:
            context = context.replace(interruption=Interruption(context.interruption, options["timeout"].seconds()))
        count = int(options["retry"].number("count")) if "retry" in options else 1
    return repeat(context, count, lambda: _run_attempt(context, stage, policy))


def _run_attempt(context: Context, stage: Stage, policy: StagePolicy) -> bool:
    """Run a stage once, with its `post`. Returns whether its conditions hold."""
    context.stage.result = Result.SUCCESS
    with log_failures(context):
        if not _conditions_hold(context, stage, "beforeInput"):
            return False
        if stage.input:
            context = _wait_for_input(context, stage.input)
        context = add_variables(context, stage.environment)
        if not _conditions_hold(context, stage, None):
            return False
    failure = _run_body(context, stage, policy)
    if failure:
        context.stage.worsen(failure_result(failure))
    if run_post(context, stage.post, lambda: context.stage.result) and not failure:
        failure = StepError(f"post of stage {stage.name} failed")
    if failure:
        raise failure
    return True


def _wait_for_input(context: Context, section: Input) -> Context:
    """Wait for approval. The variable that `submitterParameter` names then holds the user who approved."""
    settings = {call.name: evaluate(context, call.arguments[0].value) for call in section.settings}
    user = run_step(context, "input", settings)
    return context.with_variables({settings["submitterParameter"]: user}) if user else context


def _run_body(context: Context, stage: Stage, policy: StagePolicy) -> Exception | None:
    """Run the steps or the nested stages of a stage, and return the failure, if any."""
    if stage.parallel is not None:
        return _run_parallel(context, stage.parallel, policy, fail_fast=stage.fail_fast or policy.fail_fast)
    if stage.stages is not None:
        return run_stages(context, stage.stages, policy)
    try:
        with log_failures(context):
            run_steps(context, stage.steps or ())
    except FAILURES as failure:
        return failure
    return None


def _conditions_hold(context: Context, stage: Stage, moment: str | None) -> bool:
    """Return whether the conditions hold, if this is the moment to evaluate them (None: just before the steps)."""
    if stage.when is None:
        return True
    evaluation_moment = next((name for name in ("beforeOptions", "beforeInput") if name in stage.when.before), None)
    return evaluation_moment != moment or evaluate_when(context, stage.when)


def _run_parallel(
    context: Context, stages: Sequence[Stage], policy: StagePolicy, *, fail_fast: bool
) -> Exception | None:
    """Run stages in parallel and return the first failure. With `fail_fast` it interrupts the other stages."""
    scope = Interruption(context.interruption)
    failures: list[Exception] = []

    def run_branch(stage: Stage) -> None:
        branch_context = context.replace(label=stage.name, interruption=scope)
        if failure := run_stage(branch_context, stage, policy):
            failures.append(failure)
            if fail_fast:
                message = f"the parallel stage {stage.name} failed (failFast)"
                scope.interrupt(InterruptedRunError(message, affects_result=False))

    with ThreadPoolExecutor(max_workers=len(stages)) as pool:
        for future in [pool.submit(run_branch, stage) for stage in stages]:
            future.result()
    return failures[0] if failures else None
