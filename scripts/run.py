"""Run the Jenkinsfile on this machine, as a Jenkins would."""

import argparse
import os
import sys
from pathlib import Path

from continuous_training import command
from continuous_training.errors import UsageError
from jenkinsfile.syntax.parser import parse

EXIT_CODES = """\
exit codes:
  0  SUCCESS or UNSTABLE      1  FAILURE or NOT_BUILT      2  refused before anything ran
  130  ABORTED, or ended by Ctrl-C      143  ended by SIGTERM
"""


def main(arguments: argparse.Namespace) -> int:
    """Read the Jenkinsfile, refuse what cannot run here, run the rest, and say where its results are."""
    file: Path = arguments.jenkinsfile
    try:
        pipeline = parse(file.read_text(encoding="utf-8"), file.name)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    if arguments.list:
        from jenkinsfile.listing import listing

        print(*listing(pipeline), sep="\n")
        return 0
    # What a run needs takes longer to import than --list and --help should take
    from continuous_training.serving.addresses import addresses
    from jenkinsfile.execution.runner import Order, run
    from jenkinsfile.validation import examine

    findings = examine(pipeline, os.environ, file.name)
    if findings.refusals:
        print(*findings.refusals, sep="\n", file=sys.stderr)
        return UsageError.exit_code
    code = run(
        pipeline,
        findings,
        Order(Path.cwd(), arguments.branch, tuple(arguments.parameters), arguments.start),
        os.environ,
    )
    print(*addresses(), sep="\n")
    return code


if __name__ == "__main__":
    parser = command.parser(
        str(__doc__), "ct run", "ct run --list", "ct run -P AS_OF=2013-12-01 -P FORCE=true", "ct run --from Train"
    )
    parser.epilog = f"{EXIT_CODES}\n{parser.epilog}"
    parser.add_argument(
        "-P", dest="parameters", metavar="NAME=VALUE", action="append", default=[], help="set a parameter"
    )
    parser.add_argument("--list", action="store_true", help="show parameters, stages and steps, and run nothing")
    parser.add_argument(
        "--from", dest="start", metavar="STAGE", help="restart the last build from this stage, with its parameters"
    )
    parser.add_argument(
        "--branch",
        metavar="NAME",
        default=os.environ.get("BRANCH_NAME", "main"),
        help="the branch that this is a run of (default: %(default)s, whatever is checked out)",
    )
    parser.add_argument(
        "--jenkinsfile", metavar="FILE", type=Path, default=Path("Jenkinsfile"), help="another Jenkinsfile"
    )
    command.start(main, parser)
