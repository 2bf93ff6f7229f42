"""Restarts the last build from one of its stages, as Jenkins' "Restart from Stage" does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jenkinsfile.builds.results import Result
from jenkinsfile.builds.source_code import SourceCode
from jenkinsfile.errors import UsageError

if TYPE_CHECKING:
    from jenkinsfile.builds.records import BuildRecord, BuildStore, StageRecord
    from jenkinsfile.syntax.model import Pipeline, Stage

RUN_AGAIN = "run everything again, without --from"
ACCEPTABLE_RESULTS = frozenset({Result.SUCCESS.name, Result.UNSTABLE.name})
ACCEPTABLE_SKIP_REASONS = frozenset({"condition", "restart"})


class RestartError(UsageError):
    """The last build cannot be restarted from this stage."""


def stages_from(pipeline: Pipeline, name: str) -> tuple[Stage, ...]:
    """Return a top-level stage and those after it."""
    names = [stage.name for stage in pipeline.stages]
    if name not in names:
        raise RestartError(f"there is no stage '{name}' to start from; the stages are: {', '.join(names)}")
    return pipeline.stages[names.index(name) :]


def find_origin(builds: BuildStore, pipeline: Pipeline, stage: str, source_code: SourceCode) -> BuildRecord:
    """Return the record of the build to restart from a stage.

    Raises RestartError unless this build has finished, has run the same code, and has passed every stage before this
    one: otherwise the new build would contain what was never checked.
    """
    origin = builds.last()
    if origin is None:
        raise RestartError(f"there is no build to restart from stage '{stage}': {RUN_AGAIN}")
    if origin.state != "finished":
        raise RestartError(f"build {origin.number} is still running: wait until it has finished")
    if source_code.commit and not source_code.tree:
        raise RestartError(f"git cannot read the work tree, so its code cannot be compared: {RUN_AGAIN}")
    if SourceCode(origin.commit, origin.tree) != source_code:
        raise RestartError(f"the code is not that of build {origin.number}{_commits(origin, source_code)}: {RUN_AGAIN}")
    records = {record.name: record for record in origin.stages if record.depth == 0}
    for name in [candidate.name for candidate in pipeline.stages][: -len(stages_from(pipeline, stage))]:
        if problem := _problem(records.get(name)):
            raise RestartError(f"stage '{name}' {problem} in build {origin.number}: {RUN_AGAIN}")
    if stage in records and records[stage].skip_reason == "unstable":
        raise RestartError(f"stage '{stage}' was skipped because build {origin.number} is unstable: {RUN_AGAIN}")
    return origin


def _problem(record: StageRecord | None) -> str | None:
    """Return why a restart may not skip a stage; None if it may."""
    if record is None or (record.result == Result.NOT_BUILT.name and record.skip_reason not in ACCEPTABLE_SKIP_REASONS):
        return "did not run"
    if record.result != Result.NOT_BUILT.name and record.result not in ACCEPTABLE_RESULTS:
        return f"ended with {record.result}"
    return None


def _commits(origin: BuildRecord, source_code: SourceCode) -> str:
    if origin.commit and source_code.commit and origin.commit != source_code.commit:
        return f" (commit {origin.commit[:8]} then, {source_code.commit[:8]} now)"
    return " (files in the work tree have changed)"
