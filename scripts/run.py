"""Run the Jenkinsfile on this machine, as a Jenkins controller would."""

import argparse
import os
import sys

from jenkinsfile import cli

EXAMPLES = """\
examples:
  scripts/ct run
  scripts/ct run --list
  scripts/ct run -P AS_OF=2013-12-01 -P FORCE=true
  scripts/ct run --from Train
"""


def run(arguments: argparse.Namespace) -> int:
    """Run or list the Jenkinsfile. After a run print where its results are."""
    if arguments.list:
        return cli.list_stages(arguments)
    if sys.stdout.isatty():
        os.environ.setdefault("CT_PROGRESS", "1")
    code = cli.run(arguments)
    if code != cli.USAGE_ERROR:
        from continuous_training.serving.addresses import describe_addresses  # it takes long to import

        print(*describe_addresses(), sep="\n")
    return code


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="ct run",
        description=__doc__,
        epilog=f"{cli.EXIT_CODES}\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_run_arguments(parser)
    parser.add_argument("--list", action="store_true", help="list parameters, stages and steps, and run nothing")
    parser.set_defaults(command=run)
    sys.exit(cli.execute(parser))
