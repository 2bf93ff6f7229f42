"""Runs one build: its record, its environment, its stages, its `post`, and the summary at its end."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jenkinsfile.builds.console import Console
from jenkinsfile.builds.context import Build, Context, StageState
from jenkinsfile.builds.failures import FAILURES, failure_result, log_failures
from jenkinsfile.builds.interruption import Interruption
from jenkinsfile.builds.masking import MASK, Secrets
from jenkinsfile.builds.processes import BUILD_COOKIE, terminate_matching
from jenkinsfile.builds.records import BuildStore
from jenkinsfile.builds.results import Result
from jenkinsfile.builds.source_code import read_source_code
from jenkinsfile.execution.environment import add_variables, build_environment
from jenkinsfile.execution.evaluation import Symbol
from jenkinsfile.execution.post import run_post
from jenkinsfile.execution.restart import RestartError, find_origin, stages_from
from jenkinsfile.execution.signals import handle_signals
from jenkinsfile.execution.stages import StagePolicy, evaluate_options, run_stages, skip_stage
from jenkinsfile.parameters import default_values, parse_assignments, read_parameters
from jenkinsfile.steps.control_flow import repeat
from jenkinsfile.steps.credentials import mask_credential, variable_names

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from jenkinsfile.builds.records import BuildRecord
    from jenkinsfile.parameters import Parameter
    from jenkinsfile.steps.arguments import StepArguments
    from jenkinsfile.syntax.model import Pipeline, Stage
    from jenkinsfile.validation import CredentialUse

DEFAULT_BRANCH = "main"


@dataclass(frozen=True)
class RunOptions:
    """The options of a run.

    `assignments` are `NAME=VALUE` of parameters. `start_stage` restarts the last build from that stage, with its
    parameters and its branch. Without `branch` a run is one of BRANCH_NAME in the environment, or of main.
    """

    workspace: Path
    branch: str | None = None
    assignments: tuple[str, ...] = ()
    start_stage: str | None = None


def run_pipeline(
    pipeline: Pipeline, credentials: Collection[CredentialUse], options: RunOptions, machine: Mapping[str, str]
) -> int:
    """Run a valid pipeline and return the exit code.

    `machine` is the environment of this machine. Raises ParameterError and RestartError before anything has run.
    """
    definitions = read_parameters(pipeline.parameters)
    overrides = parse_assignments(definitions, options.assignments)
    stages = stages_from(pipeline, options.start_stage) if options.start_stage is not None else pipeline.stages
    console, builds = Console(Secrets()), BuildStore(options.workspace)
    for credential in credentials:
        mask_credential(credential.identifier, machine, console.secrets, has_username=credential.has_username)
    is_exclusive = any(option.name == "disableConcurrentBuilds" for option in pipeline.options)
    with builds.lock(console.line) if is_exclusive else contextlib.nullcontext():
        builds.abort_orphans(console.line)
        build = _create_build(builds, pipeline, options, machine, definitions, overrides)
        for definition in definitions:
            if definition.is_secret:
                console.secrets.add(str(build.parameters[definition.name]))
        console.log_to(build.folder / "log")
        hidden = {name for credential in credentials for name in variable_names(credential.identifier)}
        context = Context(
            build=build,
            console=console,
            stage=StageState(),
            environment=build_environment(build, {name: machine[name] for name in machine.keys() - hidden}),
            directory=options.workspace,
            interruption=build.interruption,
        )
        with handle_signals(build) as signal:
            try:
                pipeline_options = evaluate_options(context, pipeline.options)
                console.timestamps = "timestamps" in pipeline_options
                _run(context, pipeline, stages, pipeline_options)
            except BaseException:
                build.worsen(Result.FAILURE)
                raise
            finally:
                _finish(context)
        _discard_old_builds(builds, pipeline_options)
    return build.result.exit_code if signal.exit_code is None else signal.exit_code


def _create_build(
    builds: BuildStore,
    pipeline: Pipeline,
    options: RunOptions,
    machine: Mapping[str, str],
    definitions: list[Parameter],
    overrides: dict[str, str | bool],
) -> Build:
    """Determine the code, the branch and the parameters of a build, and create its record."""
    source_code = read_source_code(options.workspace)
    parameters, branch = default_values(definitions), options.branch or machine.get("BRANCH_NAME") or DEFAULT_BRANCH
    origin = None
    if options.start_stage is not None:
        origin = find_origin(builds, pipeline, options.start_stage, source_code)
        branch = _restart_branch(origin, options)
        parameters |= {name: value for name, value in origin.parameters.items() if name in parameters and value != MASK}
    parameters |= overrides
    record, folder = builds.create(
        branch=branch,
        source_code=source_code,
        origin_build=None if origin is None else origin.number,
        origin_stage=options.start_stage,
        parameters=parameters | {definition.name: MASK for definition in definitions if definition.is_secret},
    )
    build = Build(
        record=record,
        folder=folder,
        workspace=options.workspace,
        parameters=parameters,
        previous=builds.previous(record.number),
        credentials=machine,
    )
    build.add_stages(pipeline.stages)
    build.save()
    return build


def _restart_branch(origin: BuildRecord, options: RunOptions) -> str:
    branch = origin.branch or DEFAULT_BRANCH
    if options.branch not in {None, branch}:
        raise RestartError(f"build {origin.number} is one of branch '{branch}': leave out --branch")
    return branch


def _run(context: Context, pipeline: Pipeline, stages: tuple[Stage, ...], options: Mapping[str, StepArguments]) -> None:
    """Run the stages and `post`. Every failure ends up in the result of the build."""
    build = context.build
    context.log(_title(build))
    for stage in pipeline.stages:
        if stage not in stages:
            skip_stage(context, stage, "restart", f"skipped: it belongs to build {build.record.origin_build}")
    policy = StagePolicy("skipStagesAfterUnstable" in options, "parallelsAlwaysFailFast" in options)
    scope, inner_context = context, context

    def attempt() -> None:
        nonlocal inner_context
        build.result = Result.SUCCESS
        with log_failures(scope):
            inner_context = add_variables(scope, pipeline.environment)
        if failure := run_stages(inner_context, stages, policy):
            raise failure

    try:
        with log_failures(context):
            if "timeout" in options:
                scope = context.replace(interruption=Interruption(build.interruption, options["timeout"].seconds()))
            count = int(options["retry"].number("count")) if "retry" in options else 1
        repeat(scope, count, attempt)
    except FAILURES as failure:
        build.worsen(failure_result(failure))
    if pipeline.post:
        context.console.stage_header("post")
        run_post(inner_context, pipeline.post, lambda: build.result)


def _title(build: Build) -> str:
    record = build.record
    title = f"build {record.number} of {build.workspace}, branch {record.branch}"
    if record.commit:
        title += f", commit {record.commit[:8]}"
    if record.origin_build is not None:
        title += f", continues build {record.origin_build} from stage '{record.origin_stage}'"
    return title


def _finish(context: Context) -> None:
    """Terminate the processes that are left, close the record, and log the summary."""
    build, console = context.build, context.console
    if count := terminate_matching({BUILD_COOKIE: build.record.cookie}):
        context.log(f"terminated {count} process(es) that the build had left running", "dim")
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


def _discard_old_builds(builds: BuildStore, options: Mapping[str, StepArguments]) -> None:
    strategy = options["buildDiscarder"].values.get("strategy") if "buildDiscarder" in options else None
    if isinstance(strategy, Symbol):
        keep, days = (strategy.arguments.get(name) for name in ("numToKeepStr", "daysToKeepStr"))
        builds.discard(keep=int(keep) if keep else None, days=int(days) if days else None)
