"""One whole build: its record, its environment, its stages, its `post`, its end."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jenkinsfile import parameters
from jenkinsfile.builds.console import Console
from jenkinsfile.builds.context import Build, Context, StageState
from jenkinsfile.builds.interruption import Interruption
from jenkinsfile.builds.masking import MASK, Secrets
from jenkinsfile.builds.processes import BUILD_COOKIE, end_marked
from jenkinsfile.builds.records import Builds
from jenkinsfile.builds.results import Result
from jenkinsfile.errors import UsageError
from jenkinsfile.execution import signals
from jenkinsfile.execution.environment import commit, of_build, with_declared
from jenkinsfile.execution.evaluation import Symbol
from jenkinsfile.execution.post import run_post
from jenkinsfile.execution.stages import Rules, options, run_stages
from jenkinsfile.steps import credentials
from jenkinsfile.steps.control_flow import FAILURES, repeat, result_of, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from jenkinsfile.parameters import Parameter
    from jenkinsfile.steps.arguments import Given
    from jenkinsfile.syntax.model import Pipeline, Stage
    from jenkinsfile.validation import Findings


@dataclass(frozen=True)
class Order:
    """What was asked for on the command line."""

    workspace: Path
    branch: str
    parameters: tuple[str, ...] = ()
    start: str | None = None


class OrderError(UsageError):
    """The command line asks for what the Jenkinsfile does not have."""


def run(pipeline: Pipeline, findings: Findings, order: Order, machine: Mapping[str, str]) -> int:
    """Run a pipeline that was found fit for it, and give the exit code.

    ParameterError and OrderError say what is wrong with the order, before anything has run.
    """
    declared = parameters.declared(pipeline.parameters)
    builds = Builds(order.workspace)
    stages = _from(pipeline, order.start)
    chosen = _parameters(declared, order, builds)
    secrets = Secrets()
    for identifier, pair in findings.credentials:
        credentials.hide(identifier, machine, secrets, pair=pair)
    hidden = {parameter.name for parameter in declared if parameter.secret}
    for name in hidden:
        secrets.add(str(chosen[name]))
    console = Console(secrets)
    alone = any(option.name == "disableConcurrentBuilds" for option in pipeline.options)
    with builds.alone(console.line) if alone else contextlib.nullcontext():
        builds.end_the_dead(console.line)
        record, folder = builds.open({name: MASK if name in hidden else value for name, value in chosen.items()})
        build = Build(
            record=record,
            folder=folder,
            workspace=order.workspace,
            parameters=chosen,
            previous=builds.last_result(record.number),
            previous_commit=builds.last_commit(record.number),
            restarted=order.start is not None,
            credentials=machine,
        )
        build.plan(pipeline.stages)
        record.commit = commit(order.workspace)
        build.save()
        console.log_to(folder / "log")
        own = {name for identifier, _ in findings.credentials for name in credentials.sources(identifier)}
        visible = {name: value for name, value in machine.items() if name not in own}
        context = Context(
            build=build,
            console=console,
            stage=StageState(),
            environment=of_build(build, order.branch, visible, terminal=console.is_terminal),
            directory=order.workspace,
            interruption=build.interruption,
        )
        with signals.heeded(build) as received:
            try:
                given = options(context, pipeline.options)
                console.timestamps = "timestamps" in given
                _run(context, pipeline, stages, given)
            except BaseException:
                build.worsen(Result.FAILURE)
                raise
            finally:
                _finish(context)
        _discard(builds, given)
    return build.result.exit_code if received.exit_code is None else received.exit_code


def _parameters(declared: list[Parameter], order: Order, builds: Builds) -> dict[str, str | bool]:
    """Give every parameter its value; a restart has those of the build that it restarts, as on Jenkins."""
    if order.start is None:
        return parameters.values(declared, order.parameters)
    if order.parameters:
        raise OrderError("a restart has the parameters of the last build: leave out -P, or leave out --from")
    last = builds.last_parameters()
    if last is None:
        raise OrderError(f"there is no build yet that could be restarted from {order.start}")
    kept = {parameter.name: last[parameter.name] for parameter in declared if parameter.name in last}
    return parameters.values(declared, ()) | {name: value for name, value in kept.items() if value != MASK}


def _from(pipeline: Pipeline, start: str | None) -> tuple[Stage, ...]:
    names = [stage.name for stage in pipeline.stages]
    if start is None:
        return pipeline.stages
    if start not in names:
        raise OrderError(f"there is no stage «{start}» to start from; there are: {', '.join(names)}")
    return pipeline.stages[names.index(start) :]


def _run(context: Context, pipeline: Pipeline, stages: Iterable[Stage], given: Mapping[str, Given]) -> None:
    """Run the stages and `post`; all that can fail in them is in the build's result afterwards."""
    build = context.build
    context.say(f"build {build.record.number} of {build.workspace}, branch {context.environment['BRANCH_NAME']}")
    for stage in pipeline.stages:
        if stage not in stages:
            context.say(f"stage {stage.name} skipped: restarted from a later one", "dim")
    rules = Rules("skipStagesAfterUnstable" in given, "parallelsAlwaysFailFast" in given)
    scope, inside = context, context

    def attempt() -> None:
        nonlocal inside
        build.result = Result.SUCCESS
        with told(scope):
            inside = with_declared(scope, pipeline.environment)
        if failure := run_stages(inside, stages, rules):
            raise failure

    try:
        with told(context):
            if "timeout" in given:
                scope = context.within(interruption=Interruption(build.interruption, given["timeout"].seconds()))
            count = int(given["retry"].number("count")) if "retry" in given else 1
        repeat(scope, count, attempt)
    except FAILURES as failure:
        build.worsen(result_of(failure))
    if pipeline.post:
        context.console.banner("post")
        run_post(inside, pipeline.post, lambda: build.result)


def _finish(context: Context) -> None:
    """End what still runs, close the record, and show how it went."""
    build, console = context.build, context.console
    if left := end_marked({BUILD_COOKIE: build.record.cookie}):
        context.say(f"ended {left} process(es) that the build had left running", "dim")
    shutil.rmtree(build.folder / "tmp", ignore_errors=True)
    record = build.record
    record.state, record.result = "finished", build.result.name
    build.save()
    console.timestamps = False
    console.line("")
    console.table(build.stages.values())
    console.line("")
    for name, page in build.reports:
        console.line(f"{name}: {page.as_uri()}")
    console.line(f"Log: {(build.folder / 'log').as_uri()}")
    console.line(f"Finished: {build.result.name}")
    console.close()


def _discard(builds: Builds, given: Mapping[str, Given]) -> None:
    strategy = given["buildDiscarder"].values.get("strategy") if "buildDiscarder" in given else None
    if isinstance(strategy, Symbol):
        keep, days = (strategy.named.get(name) for name in ("numToKeepStr", "daysToKeepStr"))
        builds.discard(keep=int(keep) if keep else None, days=int(days) if days else None)
