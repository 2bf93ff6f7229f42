"""The step `sh`, and the steps that describe the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jenkinsfile.builds.console import ScriptOutput
from jenkinsfile.builds.processes import run_script
from jenkinsfile.builds.results import StepError

if TYPE_CHECKING:
    from jenkinsfile.builds.context import Body, Context
    from jenkinsfile.steps.arguments import StepArguments


def sh(context: Context, arguments: StepArguments, _body: Body) -> int | str | None:
    """Run a shell script. Returns its exit code with `returnStatus`, its output with `returnStdout`, else null."""
    return_status, return_output = arguments.boolean("returnStatus"), arguments.boolean("returnStdout")
    if label := arguments.text("label", ""):
        context.log(f"({label})")
    console_output = ScriptOutput(context.console, context.label)
    try:
        code, output = run_script(
            arguments.text("script"),
            directory=context.directory,
            environment=context.environment,
            temporary=context.build.folder / "tmp",
            interruption=context.interruption,
            write=console_output.write,
            capture=return_output,
        )
    finally:
        console_output.close()
    if return_status:
        return code
    if code:
        raise StepError(f"script returned exit code {code}")
    return output.decode(arguments.text("encoding", "UTF-8"), errors="replace") if return_output else None


def is_unix(_context: Context, _arguments: StepArguments, _body: Body) -> bool:
    """Return true: the tool does not run on Windows."""
    return True


def pwd(context: Context, arguments: StepArguments, _body: Body) -> str:
    """Return the current directory; with `tmp`, the directory for temporary files."""
    return str(context.build.folder / "tmp" if arguments.boolean("tmp") else context.directory)
