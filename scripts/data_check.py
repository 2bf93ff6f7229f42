"""New data: ping Jenkins for a training if enough data arrived since the champion's snapshot."""

import argparse
import os

from continuous_training import command
from continuous_training.errors import UserError

NOTE = "The stage `ct check-data` is something else: it validates the snapshot of a run before the training."


def main(arguments: argparse.Namespace) -> None:
    """Print the changes and the verdict."""
    from continuous_training.monitoring.new_data import check  # imports take seconds, which --help does not need
    from continuous_training.registry import connection

    origin = check.describe_sync(arguments.connection, arguments.rows)
    result = check.check_new_data(
        connection.open_client(), arguments.model, arguments.jenkins, os.environ.get("AS_OF", ""), origin
    )
    print(result.model_dump_json(indent=2) if arguments.json else result.summary)
    if result.ping_result and result.ping_result.preview and not arguments.json:
        print(result.ping_result.preview)
    if result.ping_result and result.ping_result.error:
        raise UserError(result.ping_result.error)


if __name__ == "__main__":
    parser = command.parser(
        f"{__doc__}\n\n{NOTE}",
        "ct data-check",
        "ct data-check --jenkins none --json",
        "ct data-check --jenkins https://jenkins.example.com --connection orders --rows 20000",
    )
    command.add_model(parser)
    command.add_jenkins(parser)
    parser.add_argument(
        "--connection",
        default=os.environ.get("AIRBYTE_CONNECTION", ""),
        help="name of the Airbyte connection that synced, for the reason of the run (default: AIRBYTE_CONNECTION)",
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=os.environ.get("AIRBYTE_ROWS") or None,
        help="number of rows that Airbyte reports as synced (default: AIRBYTE_ROWS)",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    command.start(main, parser)
