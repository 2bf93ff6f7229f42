"""Hold: train and judge as before, but promote no version of a model until scripts/ct release."""

import argparse
import os

from continuous_training import command
from continuous_training.errors import UsageError


def main(arguments: argparse.Namespace) -> None:
    """Put the model on hold, and print the hold."""
    if not arguments.reason.strip():
        raise UsageError("a reason is missing: set --reason 'customers complain', or REASON in the environment")
    from continuous_training.documents import Stopwatch, is_run_of
    from continuous_training.registry import connection
    from continuous_training.stages import hold

    until = hold.parse_until(arguments.until)
    timer = Stopwatch.of_environment()
    status = hold.hold(connection.open_client(), arguments.model, arguments.reason, until, timer)
    if is_run_of("hold", status.build_tag):
        status.write()
    print(status.model_dump_json(indent=2) if arguments.json else status.message)


if __name__ == "__main__":
    parser = command.parser(
        str(__doc__), "ct hold --reason 'customers complain'", "ct hold --until 3d --reason 'the shop is being moved'"
    )
    parser.add_argument("--reason", default=os.environ.get("REASON", ""), help="the reason (default: REASON)")
    parser.add_argument(
        "--until",
        default="",
        help="when the hold ends by itself: at the beginning of a day (2026-12-24) in UTC, at a time "
        "(2026-12-24T12:00), or after a duration (3d, 12h); the default is never",
    )
    command.add_model(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    command.start(main, parser)
