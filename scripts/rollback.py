"""Roll back: give the champion's place back to the version before it."""

import argparse
import logging
import os
import time

from continuous_training import command
from continuous_training.documents import Run, Stopwatch
from continuous_training.errors import UsageError, UserError


def main(arguments: argparse.Namespace) -> None:
    """Roll back, say which version answers now, and fail if a server does not follow."""
    if not arguments.reason.strip():
        raise UsageError("say why: --reason 'it predicts nonsense since noon', or REASON in the environment")
    from continuous_training.registry import connection  # MLflow takes seconds to import, --help should not
    from continuous_training.stages import roll_back

    build_tag = os.environ.get("BUILD_TAG") or f"by-hand-{time.time():.0f}"
    made, silent = roll_back.roll_back(
        connection.open_client(), arguments.model, arguments.reason, Stopwatch(build_tag)
    )
    if _is_part_of(build_tag):
        made.write()
    told = f"version {made.model_version} of {made.name} is champion again, version {made.rolled_back_version} is not"
    print(made.model_dump_json(indent=2) if arguments.json else told)
    logging.getLogger(__name__).info("A twin may win again: set PROMOTE=ask or never until the cause is found")
    if silent:
        raise UserError(f"{told}; but {'; '.join(silent)}")


def _is_part_of(build_tag: str) -> bool:
    """Tell whether build/ is that of a run which was started to roll back: a person may call this in any workspace."""
    try:
        run = Run.find()
    except UserError:
        return False
    return run is not None and run.rollback and run.build_tag == build_tag


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct rollback --reason 'it predicts nonsense since noon'")
    parser.add_argument(
        "--reason", default=os.environ.get("REASON", ""), help="why; kept with the version (default: REASON)"
    )
    command.add_model(parser)
    parser.add_argument("--json", action="store_true", help="print the document of the rollback")
    command.start(main, parser)
