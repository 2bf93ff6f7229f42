"""Lint: check the style, the mistakes and the types of the code."""

import argparse
import sys

from continuous_training import command
from continuous_training.documents import Lint, Run, Stopwatch
from continuous_training.errors import UserError
from continuous_training.stages import lint


def main(_: argparse.Namespace) -> None:
    """Run the linters; inside a run, write down what they said."""
    run = Run.find()
    timer = Stopwatch(run.build_tag if run else "")
    tools = lint.lint()
    for tool in tools:
        print(
            f"{'✓' if tool.passed else '✗'} {tool.command}\n{tool.output}",
            file=sys.stdout if tool.passed else sys.stderr,
        )
    if run:
        Lint(tools=tools, **timer.stop()).write()
    failed = [tool.command for tool in tools if not tool.passed]
    if failed:
        raise UserError(f"{' and '.join(failed)} failed: what to mend is above")


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct lint"))
