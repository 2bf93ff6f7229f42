"""Roll back: make the previous version the champion again."""

import argparse
import logging
import os
import time

from continuous_training import command
from continuous_training.errors import UsageError, UserError


def main(arguments: argparse.Namespace) -> None:
    """Roll back, print the version in production, and fail if a server does not follow."""
    if not arguments.reason.strip():
        raise UsageError(
            "a reason is missing: set --reason 'it predicts nonsense since noon', or REASON in the environment"
        )
    from continuous_training.documents import Stopwatch
    from continuous_training.registry import connection
    from continuous_training.stages import roll_back

    build_tag = os.environ.get("BUILD_TAG") or f"by-hand-{time.time():.0f}"
    rollback, errors = roll_back.roll_back(
        connection.open_client(), arguments.model, arguments.reason, Stopwatch(build_tag)
    )
    if _is_part_of(build_tag):
        rollback.write()
    message = f"version {rollback.model_version} of {rollback.name} replaces version {rollback.rolled_back_version}"
    print(rollback.model_dump_json(indent=2) if arguments.json else message)
    logging.getLogger(__name__).info(
        "A new training may promote a similar model: set PROMOTE=ask or never until the cause is found"
    )
    if errors:
        raise UserError(f"{message}; but {'; '.join(errors)}")


def _is_part_of(build_tag: str) -> bool:
    """Whether build/ belongs to a rollback run; a person may call this script in any workspace."""
    from continuous_training.documents import Run

    try:
        run = Run.find()
    except UserError:
        return False
    return run is not None and run.rollback and run.build_tag == build_tag


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct rollback --reason 'it predicts nonsense since noon'")
    parser.add_argument(
        "--reason",
        default=os.environ.get("REASON", ""),
        help="the reason, which is stored with the version (default: REASON)",
    )
    command.add_model(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    command.start(main, parser)
