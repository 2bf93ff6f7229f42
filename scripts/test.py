"""Test: run the tests, all of them or the quick ones."""

import argparse

from continuous_training import command, test
from continuous_training.documents import Run, Stopwatch, Tests


def main(given: argparse.Namespace) -> int:
    """Run pytest; inside a run, write down how many tests passed and failed."""
    run = Run.find()
    timer = Stopwatch(run.build_tag if run else "")
    test.JUNIT.unlink(missing_ok=True)
    code = test.test(*(test.QUICK if given.quick else ()), *given.pytest)
    if run and test.JUNIT.exists():
        passed, failed, skipped, failures = test.counts(test.JUNIT)
        Tests(passed=passed, failed=failed, skipped=skipped, failures=failures, **timer.stop()).write()
    return code


if __name__ == "__main__":
    arguments = command.parser(str(__doc__), "ct test", "ct test --quick", "ct test -- -k snapshot -x")
    arguments.add_argument("--quick", action="store_true", help="leave out the integration tests, as a run does")
    arguments.add_argument("pytest", nargs="*", metavar="ARGUMENT", help="passed on to pytest, after --")
    command.start(main, arguments)
