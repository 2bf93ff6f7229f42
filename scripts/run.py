"""Run the Jenkinsfile on this machine, as a Jenkins would."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.command import parser, start
from continuous_training.problem import Problem

if TYPE_CHECKING:
    import argparse

REFUSED = 2
EXIT_CODES = """\
exit codes:
  0  SUCCESS or UNSTABLE      1  FAILURE or NOT_BUILT      2  refused before anything ran
  130  ABORTED, or ended by Ctrl-C      143  ended by SIGTERM
"""


def run(given: argparse.Namespace) -> int:
    """Read the Jenkinsfile, refuse what cannot run here, and run the rest."""
    from continuous_training.jenkinsfile.parser import parse

    file: Path = given.jenkinsfile
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        print(error, file=sys.stderr)
        return REFUSED
    try:
        pipeline = parse(text, file.name)
        if given.list:
            from continuous_training.jenkinsfile.listing import listing

            print("\n".join(listing(pipeline)))
            return 0
        from continuous_training.jenkinsfile.refusals import examine
        from continuous_training.jenkinsfile.runner import Order
        from continuous_training.jenkinsfile.runner import run as run_pipeline

        findings = examine(pipeline, os.environ, file.name)
        if findings.refusals:
            print(*findings.refusals, sep="\n", file=sys.stderr)
            return REFUSED
        order = Order(Path.cwd(), given.branch, tuple(given.parameters), given.start)
        return run_pipeline(pipeline, findings, order, os.environ)
    except Problem as error:  # what a run itself meets is in the build's result
        print(error, file=sys.stderr)
        return REFUSED


arguments = parser(__doc__, "ct run", "ct run --list", "ct run -P AS_OF=2013-12-01", "ct run --from Train")
arguments.epilog = f"{EXIT_CODES}\n{arguments.epilog}"
arguments.add_argument(
    "-P", dest="parameters", metavar="NAME=VALUE", action="append", default=[], help="set a parameter"
)
arguments.add_argument("--list", action="store_true", help="show parameters, stages and steps, and run nothing")
arguments.add_argument("--from", dest="start", metavar="STAGE", help="start from this top-level stage")
arguments.add_argument(
    "--branch", metavar="NAME", default=os.environ.get("BRANCH_NAME", "main"), help="the branch that this is a run of"
)
arguments.add_argument(
    "--jenkinsfile", metavar="FILE", type=Path, default=Path("Jenkinsfile"), help="another Jenkinsfile"
)
start(run, arguments)
