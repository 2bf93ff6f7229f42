"""New data: ask Jenkins for a training if enough has come since the champion's snapshot."""

import argparse
import os

from continuous_training import command
from continuous_training.errors import UserError

OTHER = (
    "Not to be confused with ct check-data, the stage of a run that refuses a snapshot which is not fit to train on."
)


def main(arguments: argparse.Namespace) -> None:
    """Print what has come and what follows."""
    from continuous_training.monitoring.new_data import check  # seconds that --help should not take
    from continuous_training.registry import connection

    because = check.synced(arguments.connection, arguments.rows)
    found = check.check(
        connection.open_client(), arguments.model, arguments.jenkins, os.environ.get("AS_OF", ""), because
    )
    print(found.model_dump_json(indent=2) if arguments.json else found.summary)
    if found.asking and found.asking.preview and not arguments.json:
        print(found.asking.preview)
    if found.asking and found.asking.error:
        raise UserError(found.asking.error)


if __name__ == "__main__":
    parser = command.parser(
        f"{__doc__}\n\n{OTHER}",
        "ct data-check",
        "ct data-check --jenkins none --json",
        "ct data-check --jenkins https://jenkins.example.com --connection orders --rows 20000",
    )
    command.add_model(parser)
    command.add_jenkins(parser)
    parser.add_argument(
        "--connection",
        default=os.environ.get("AIRBYTE_CONNECTION", ""),
        help="the connection of Airbyte's that has brought the data; the ping says so (default: AIRBYTE_CONNECTION)",
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=os.environ.get("AIRBYTE_ROWS") or None,
        help="how many rows it says it has synced (default: AIRBYTE_ROWS)",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    command.start(main, parser)
