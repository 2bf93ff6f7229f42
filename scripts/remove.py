"""Remove a model: its package under src/ and its tests."""

import argparse
import logging
import os

from continuous_training import command
from continuous_training.new_model.removal import remove

log = logging.getLogger(__name__)


def main(arguments: argparse.Namespace) -> None:
    """Remove the folders, and print what stays."""
    for folder in remove(arguments.name, force=arguments.force):
        print(folder)
    registry = os.environ.get("MLFLOW_TRACKING_URI", "").partition("?")[0] or "MLflow in .ct/"
    log.info(
        "The registry keeps all versions of %s and its champion, which servers still follow (%s)",
        arguments.name,
        registry,
    )
    log.info("Commit the removal with git add --all src tests; scripts/ct stop ends a server on this machine")


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct remove returns", "ct remove returns --force")
    parser.add_argument("name", metavar="NAME", help="the model, a package under src/")
    parser.add_argument("--force", action="store_true", help="remove files too that git could not restore")
    command.start(main, parser)
