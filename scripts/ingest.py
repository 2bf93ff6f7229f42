"""Ingest: sync a source of Airbyte's into the warehouse, as far as it is new."""

import argparse

from continuous_training import command, settings
from continuous_training.data.ingestion import syncing


def main(given: argparse.Namespace) -> None:
    """Sync it, and print how many rows were read; the last line is their number alone."""
    synced = syncing.sync(given.source, settings.load(given.model))
    print(synced.model_dump_json() if given.json else synced.in_words)


if __name__ == "__main__":
    arguments = command.parser(
        str(__doc__),
        "ct ingest --source faker",
        "ct ingest --source faker --json",
    )
    arguments.add_argument(
        "--source", required=True, metavar="NAME", help="a YAML file in jenkins/ingest/, without its .yaml"
    )
    command.add_model(arguments)
    arguments.add_argument("--json", action="store_true", help="print a JSON object")
    command.start(main, arguments)
