"""Test: run the tests, all of them or the quick ones; or check a Jenkins controller."""

import argparse

from continuous_training import command
from continuous_training.documents import Run, Stopwatch, Tests
from continuous_training.stages import test

SECRETS = """\
environment, for --jenkins (what needs one that is not set is skipped):
  JENKINS_USER_ID, JENKINS_API_TOKEN      who starts the runs
  WEBHOOK_TOKEN                           what pings show
  GITHUB_WEBHOOK_SECRET                   what GitHub signs its pushes with
"""


def main(arguments: argparse.Namespace) -> int:
    """Run pytest; inside a run, write down how many tests passed and failed."""
    if arguments.jenkins:
        return test.test(*test.on_jenkins(arguments.jenkins, arguments.minutes), *arguments.pytest)
    run = Run.find()
    timer = Stopwatch(run.build_tag if run else "")
    test.JUNIT.unlink(missing_ok=True)
    if not arguments.quick:
        test.set_up()
    code = test.test(*(test.QUICK if arguments.quick else ()), *arguments.pytest)
    if run and test.JUNIT.exists():
        passed, failed, skipped, failures = test.counts(test.JUNIT)
        Tests(passed=passed, failed=failed, skipped=skipped, failures=failures, **timer.stop()).write()
    return code


if __name__ == "__main__":
    parser = command.parser(
        str(__doc__),
        *("ct test", "ct test --quick", "ct test -- -k snapshot -x"),
        "ct test --jenkins http://localhost:8080",
    )
    parser.epilog = f"{SECRETS}\n{parser.epilog}"
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="leave out the integration tests, as a run does")
    which.add_argument(
        "--jenkins", metavar="URL", help="check the controller at this address instead: it starts runs of main there"
    )
    parser.add_argument(
        "--minutes",
        metavar="N",
        type=float,
        default=60,
        help="with --jenkins: wait so long for each run (default: %(default)s)",
    )
    parser.add_argument("pytest", nargs="*", metavar="ARGUMENT", help="passed on to pytest, after --")
    command.start(main, parser)
