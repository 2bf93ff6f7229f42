"""The command line: `python -m jenkinsfile run` and `python -m jenkinsfile list`.

Each command imports what it needs: `--help` does not import the parser, and `list` does not import the runner.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jenkinsfile.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from jenkinsfile.syntax.model import Pipeline

INTERRUPTED = 130  # 128 + SIGINT, as in shells
EXIT_CODES = """\
exit codes:
  0  SUCCESS or UNSTABLE      1  FAILURE or NOT_BUILT      2  an error before anything ran
  130  ABORTED, or interrupted by Ctrl-C      143  terminated by SIGTERM
"""
USAGE_ERROR = UsageError.exit_code
EXAMPLES = """\
examples, for the Jenkinsfile in src/jenkinsfile/README.md:
  python -m jenkinsfile run
  python -m jenkinsfile run -P NAME=Jenkins
  python -m jenkinsfile run --from Greet
"""


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`."""
    add_file_argument(parser)
    parser.add_argument(
        "-P", dest="assignments", metavar="NAME=VALUE", action="append", default=[], help="set a parameter"
    )
    parser.add_argument(
        "--from",
        dest="start_stage",
        metavar="STAGE",
        help="restart the last build from this stage, with its parameters (-P overrides them); refused if the code has"
        " changed since, or if an earlier stage failed",
    )
    parser.add_argument(
        "--branch",
        metavar="NAME",
        help="the branch of the build, whatever is checked out (default: BRANCH_NAME in the environment, or main)",
    )


def add_file_argument(parser: argparse.ArgumentParser) -> None:
    """Add --jenkinsfile."""
    parser.add_argument(
        "--jenkinsfile", metavar="FILE", type=Path, default=Path("Jenkinsfile"), help="the file (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run a Jenkinsfile in the current directory and return the exit code. Prints what a local run does not support."""
    from jenkinsfile.execution.runner import RunOptions, run_pipeline
    from jenkinsfile.validation import validate

    pipeline = _parse(arguments.jenkinsfile)
    result = validate(pipeline, os.environ, arguments.jenkinsfile.name)
    if result.errors:
        print(*result.errors, sep="\n", file=sys.stderr)
        return USAGE_ERROR
    options = RunOptions(Path.cwd(), arguments.branch, tuple(arguments.assignments), arguments.start_stage)
    return run_pipeline(pipeline, result.credentials, options, os.environ)


def list_stages(arguments: argparse.Namespace) -> int:
    """Print the parameters, stages and steps of a Jenkinsfile."""
    from jenkinsfile.listing import list_pipeline

    print(*list_pipeline(_parse(arguments.jenkinsfile)), sep="\n")
    return 0


def execute(parser: argparse.ArgumentParser) -> int:
    """Parse the command line and call its `command`. An error becomes one line and its exit code."""
    arguments = parser.parse_args()
    try:
        code: int = arguments.command(arguments)
        sys.stdout.flush()
    except PipelineError as error:
        print(f"{parser.prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, for example `head`, has closed the pipe
        sys.stderr.close()
        return 0
    return code


def main() -> int:
    """Run the command line of the tool."""
    parser = argparse.ArgumentParser(
        prog="python -m jenkinsfile", description="Run a declarative Jenkinsfile on this machine."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    run_parser = commands.add_parser(
        "run",
        help="run the stages",
        description="Run the stages of a Jenkinsfile as a Jenkins controller would.",
        epilog=f"{EXIT_CODES}\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_arguments(run_parser)
    run_parser.set_defaults(command=run)
    list_parser = commands.add_parser(
        "list", help="list parameters, stages and steps", description="List parameters, stages and steps; run nothing."
    )
    add_file_argument(list_parser)
    list_parser.set_defaults(command=list_stages)
    return execute(parser)


def _parse(file: Path) -> Pipeline:
    from jenkinsfile.syntax.parser import parse

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}") from error
    return parse(text, file.name)
