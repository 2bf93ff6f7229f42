"""Lint: check the style, the mistakes, the types and the imports of the code."""

import argparse
import sys

from continuous_training import command
from continuous_training.errors import UserError


def main(_: argparse.Namespace) -> None:
    """Run the linters, unless they passed before with the same code; inside a run, write their results."""
    from continuous_training.documents import Lint, Run, Stopwatch
    from continuous_training.stages import lint, result_cache

    run = Run.find()
    timer = Stopwatch(run.build_tag if run else "")
    inputs = result_cache.hash_inputs(lint.INPUTS)
    result = result_cache.find(lint.NAME, inputs)
    if result:
        print(f"Linted in {result.run} with the same code; FORCE=true lints again")
    tools = [] if result else lint.lint()
    for tool in tools:
        print(
            f"{'✓' if tool.passed else '✗'} {tool.command}\n{tool.output}",
            file=sys.stdout if tool.passed else sys.stderr,
        )
    if run:
        Lint(tools=tools, earlier_run=result.run if result else None, **timer.stop()).write()
    if failures := [tool.command for tool in tools if not tool.passed]:
        raise UserError(f"{' and '.join(failures)} failed: see the messages above")
    if not result:
        result_cache.store(lint.NAME, inputs)


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct lint"))
