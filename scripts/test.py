"""Test: run the tests, all of them or some suites; or check a Jenkins controller."""

import argparse

from continuous_training import command
from continuous_training.documents import FrameworkTests, Run, Stopwatch, Tests
from continuous_training.model_packages import default_model
from continuous_training.stages import test

ENVIRONMENT = """\
environment, for --jenkins (checks that need a variable that is not set are skipped):
  JENKINS_USER_ID, JENKINS_API_TOKEN      who starts the runs
  WEBHOOK_TOKEN                           authenticates pings
  GITHUB_WEBHOOK_SECRET                   signs GitHub's pushes
"""


def main(arguments: argparse.Namespace) -> int:
    """Run pytest; inside a run, write how many tests passed and failed."""
    if arguments.jenkins:
        options = test.controller_arguments(arguments.jenkins, arguments.minutes)
        return test.run_pytest(test.FRAMEWORK_JUNIT, *options, *arguments.pytest)
    run = Run.find()
    timer = Stopwatch(run.build_tag if run else "")
    suites = tuple(suite for suite in test.SUITES if suite in arguments.suite)
    model = arguments.model or (default_model() if "model" in suites else "")
    selection = test.Selection(model, suites, arguments.quick, tuple(arguments.pytest))
    code, counts = test.test(selection)
    if run and counts:
        document = FrameworkTests if selection.has_framework else Tests
        document(**counts._asdict(), **timer.stop()).write()
    return code


if __name__ == "__main__":
    examples = ("ct test", "ct test --suite model", "ct test --suite framework --quick", "ct test -- -k snapshot -x")
    parser = command.parser(str(__doc__), *examples, "ct test --jenkins http://localhost:8080")
    parser.epilog = f"{ENVIRONMENT}\n{parser.epilog}"
    command.add_model(parser)
    parser.set_defaults(model=None)  # only --suite model needs one
    parser.add_argument(
        "--suite",
        choices=test.SUITES,
        action="append",
        default=[],
        help="run the tests of the model, of the framework or of the Jenkinsfile tool; may be repeated (default: all)",
    )
    parser.add_argument("--quick", action="store_true", help="leave out the integration tests")
    parser.add_argument("--jenkins", metavar="URL", help="check the controller at this URL: it starts runs of main")
    parser.add_argument(
        "--minutes",
        metavar="N",
        type=float,
        default=60,
        help="with --jenkins: the limit for each run (default: %(default)s)",
    )
    parser.add_argument("pytest", nargs="*", metavar="ARGUMENT", help="passed to pytest, after --")
    command.start(main, parser)
