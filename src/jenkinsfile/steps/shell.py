"""The step `sh`, and what tells about the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jenkinsfile.builds.console import Output
from jenkinsfile.builds.processes import run_script
from jenkinsfile.builds.results import StepError

if TYPE_CHECKING:
    from jenkinsfile.builds.context import Body, Context
    from jenkinsfile.steps.arguments import Given


def sh(context: Context, given: Given, _body: Body) -> int | str | None:
    """Run a shell script: its exit code with `returnStatus`, its output with `returnStdout`, else null."""
    wants_status, wants_output = given.flag("returnStatus"), given.flag("returnStdout")
    if label := given.text("label", ""):
        context.say(f"({label})")
    output = Output(context.console, context.label)
    try:
        code, captured = run_script(
            given.text("script"),
            directory=context.directory,
            environment=context.environment,
            temporary=context.build.folder / "tmp",
            interruption=context.interruption,
            write=output.write,
            capture=wants_output,
        )
    finally:
        output.close()
    if wants_status:
        return code
    if code:
        raise StepError(f"script returned exit code {code}")
    return captured.decode(given.text("encoding", "UTF-8"), errors="replace") if wants_output else None


def is_unix(_context: Context, _given: Given, _body: Body) -> bool:
    """Tell that this is no Windows."""
    return True


def pwd(context: Context, given: Given, _body: Body) -> str:
    """Give the directory that steps run in; with `tmp`, one for temporary files."""
    return str(context.build.folder / "tmp" if given.flag("tmp") else context.directory)
