"""Roll back: make the previous version the champion again, and put the model on hold."""

import argparse
import logging
import os

from continuous_training import command
from continuous_training.errors import UsageError, UserError


def main(arguments: argparse.Namespace) -> None:
    """Roll back, print the version in production, and fail if a server does not follow."""
    if not arguments.reason.strip():
        raise UsageError(
            "a reason is missing: set --reason 'it predicts nonsense since noon', or REASON in the environment"
        )
    from continuous_training.documents import Stopwatch, is_run_of
    from continuous_training.registry import connection
    from continuous_training.stages import roll_back

    timer = Stopwatch.of_environment()
    rollback, errors = roll_back.roll_back(
        connection.open_client(), arguments.model, arguments.reason, timer, hold=not arguments.no_hold
    )
    if is_run_of("rollback", rollback.build_tag):
        rollback.write()
    message = f"version {rollback.model_version} of {rollback.name} replaces version {rollback.rolled_back_version}"
    print(rollback.model_dump_json(indent=2) if arguments.json else message)
    logging.getLogger(__name__).info("%s", rollback.hold_message)
    if errors:
        raise UserError(f"{message}; but {'; '.join(errors)}")


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct rollback --reason 'it predicts nonsense since noon'")
    parser.add_argument(
        "--reason",
        default=os.environ.get("REASON", ""),
        help="the reason, which is stored with the version (default: REASON)",
    )
    parser.add_argument(
        "--no-hold", action="store_true", help="let the next run promote a new version, which may be a similar one"
    )
    command.add_model(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    command.start(main, parser)
