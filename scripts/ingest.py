"""Ingest: sync the new rows of an Airbyte source into the warehouse."""

import argparse

from continuous_training import command


def main(arguments: argparse.Namespace) -> None:
    """Sync a source and print how many rows were read; the last line is the number of rows alone."""
    from continuous_training.data.ingestion import syncing
    from continuous_training.settings import load_settings

    result = syncing.sync(arguments.source, load_settings(arguments.model))
    print(result.model_dump_json() if arguments.json else result.summary)


if __name__ == "__main__":
    parser = command.parser(
        str(__doc__),
        "ct ingest --source faker",
        "ct ingest --source faker --json",
    )
    parser.add_argument(
        "--source", required=True, metavar="NAME", help="a YAML file in jenkins/ingest/, without its .yaml"
    )
    command.add_model(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    command.start(main, parser)
